"""The one door to Cloud Storage: objects in and out, under a deadline, with nothing believed about their bytes."""

from __future__ import annotations

import io
import re
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from model.errors import BundleError

SCHEME = "gs"
BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
DIGEST = re.compile(r"[0-9a-f]{64}")

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.15, 1.0
CONNECT_SECONDS, READ_SECONDS = 2.0, 5.0

# an object that arrives wrong may have been damaged on its way, but one that stays wrong is wrong
TRIES_OF_WRONG_BYTES = 3

T = TypeVar("T")
Clock = Callable[[], float]


@dataclass(frozen=True)
class Address:
    """A folder of objects: `gs://bucket/prefix/`.

    Attributes:
        bucket: its name.
        prefix: the part of object names before the file name, without slashes at its ends; may be empty.
    """

    bucket: str
    prefix: str

    def __str__(self) -> str:
        """Return the address as a `gs://` URI with a slash at its end."""
        return f"{SCHEME}://{self.bucket}/{self.prefix}/" if self.prefix else f"{SCHEME}://{self.bucket}/"

    @property
    def digest(self) -> str | None:
        """The digest that the last part of the prefix names, as `sha256:<hex>`, or None."""
        last = self.prefix.rpartition("/")[2]
        return f"sha256:{last}" if DIGEST.fullmatch(last) else None

    def object_name(self, file: str) -> str:
        """Return the full name of the object for a file."""
        return f"{self.prefix}/{file}" if self.prefix else file

    def child(self, name: str) -> Address:
        """Return the address of a folder below."""
        return Address(self.bucket, self.object_name(name))


def parse(uri: str) -> Address:
    """Read `gs://bucket/prefix`.

    Raises:
        BundleError: `store_address` if it is not one.
    """
    # not urlsplit: it drops line breaks, lower-cases, and raises on brackets
    bucket, _, path = uri.removeprefix(f"{SCHEME}://").partition("/")
    prefix = path.strip("/")
    odd = not uri.isprintable() or "?" in uri or "#" in uri
    odd = odd or any(step in ("", ".", "..") for step in (prefix.split("/") if prefix else ()))
    if odd or not is_address(uri) or not BUCKET_NAME.fullmatch(bucket):
        raise BundleError("store_address", f"{uri[:200]!r} is not an address such as gs://bucket/models/penguins")
    return Address(bucket, prefix)


def is_address(uri: str) -> bool:
    """Whether a URI is meant for the store rather than the disk."""
    return uri.startswith(f"{SCHEME}://")


class Deadline:
    """A moment on the wall clock after which everything still under way is given up."""

    def __init__(self, seconds: float, clock: Clock = time.monotonic) -> None:
        """Begin counting now."""
        self.seconds = seconds
        self._clock, self._end = clock, clock() + seconds

    def remaining(self) -> float:
        """Return the seconds left, 0 if there are none."""
        return max(0.0, self._end - self._clock())

    def check(self) -> None:
        """Raise BundleError `fetch_timeout` if there is no time left."""
        if self.remaining() <= 0:
            raise self.error()

    def error(self) -> BundleError:
        """Return the refusal of something too slow."""
        return BundleError("fetch_timeout", f"the bundle did not arrive within {self.seconds:g} seconds")


class _Capped(io.BytesIO):
    """Collects a download, and stops one that is longer or slower than it may be."""

    def __init__(self, limit_bytes: int, deadline: Deadline) -> None:
        super().__init__()
        self._limit_bytes, self._deadline = limit_bytes, deadline

    def write(self, chunk: Any) -> int:
        """Take a chunk, or refuse it."""
        self._deadline.check()
        if self.tell() + len(chunk) > self._limit_bytes:
            raise BundleError("endless_data", f"an object is longer than the {self._limit_bytes} bytes it may have")
        return super().write(chunk)


class Bucket:
    """Objects below one address."""

    def __init__(self, address: Address, client: Any = None) -> None:
        """Prepare the client; nothing is sent yet.

        Never to be called before Gunicorn forks: the client starts threads.

        Args:
            address: where the objects are.
            client: a google.cloud.storage client; None makes one with the default credentials.

        Raises:
            BundleError: `store_credentials` if there are no credentials.
        """
        from google.api_core import exceptions
        from google.auth.exceptions import GoogleAuthError, InvalidOperation
        from google.cloud import storage

        self.address = address
        try:
            self._client = client or storage.Client()
            # the client never reads the body of a refused download, and would keep its connection until it is collected
            hooks = self._client._http.hooks["response"]
            if _drain_refusal not in hooks:
                hooks.append(_drain_refusal)
        except (GoogleAuthError, OSError) as error:
            said = str(error).partition(" To set up ")[0][:200]
            todo = "run: gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS"
            reason = f"no credentials for Cloud Storage ({said.rstrip('. ')}); {todo}"
            raise BundleError("store_credentials", reason) from error
        self._bucket = self._client.bucket(address.bucket)
        self._exceptions = exceptions
        # the last is what the client makes of 401 where credentials cannot be renewed
        self._forbidden = (exceptions.Unauthorized, exceptions.Forbidden, InvalidOperation)

    def child(self, name: str) -> Bucket:
        """Return the objects of a folder below, reached through the same client."""
        return Bucket(self.address.child(name), self._client)

    def read(self, file: str, limit_bytes: int, deadline: Deadline, check: Callable[[bytes], None]) -> bytes:
        """Download one object into memory, again and again until it is right or time is up.

        Args:
            file: name below the address.
            limit_bytes: more is refused.
            deadline: for all tries together.
            check: raises BundleError if the bytes are not the right ones.

        Raises:
            BundleError: `object_missing`, `store_forbidden`, `store_unreachable`, `endless_data`, `fetch_timeout`, or
                what `check` raised three times.
        """
        wrong = 0
        pauses = _pauses()
        while True:
            try:
                payload = self._download(file, limit_bytes, deadline)
            except Exception as error:  # the client raises whatever its transport does
                refusal, is_passing = self._translate(error, file)
                if not is_passing:
                    raise refusal from error
            else:
                try:
                    check(payload)
                except BundleError as error:
                    refusal, wrong = error, wrong + 1
                    if wrong == TRIES_OF_WRONG_BYTES:
                        raise
                else:
                    return payload
            pause = next(pauses)
            if deadline.remaining() <= 0:
                raise deadline.error() from refusal
            if deadline.remaining() <= pause:
                raise refusal
            threading.Event().wait(pause)

    def create(self, file: str, payload: bytes) -> bool:
        """Upload one object unless there is one of that name.

        Returns:
            True if it was created, False if the very same bytes are there already.

        Raises:
            BundleError: `object_differs` if another object has the name, `store_forbidden`, `store_unreachable`.
        """
        blob = self._bucket.blob(self.address.object_name(file))
        try:
            blob.upload_from_string(
                payload, content_type=_content_type(file), if_generation_match=0, checksum="crc32c", timeout=60
            )
        except self._exceptions.PreconditionFailed:
            # either it was there before, or the first try arrived although its answer was lost
            self._compare(file, payload)
            return False
        except Exception as error:  # see `read`
            raise self._translate(error, file)[0] from error
        return True

    def _compare(self, file: str, payload: bytes) -> None:
        """Raise BundleError `object_differs` unless an object is what would have been uploaded."""
        name = self.address.object_name(file)
        reason = f"gs://{self.address.bucket}/{name} exists with other content; nothing was overwritten"
        differs = BundleError("object_differs", reason)

        def check(found: bytes) -> None:
            if found != payload:
                raise differs

        try:
            self.read(file, len(payload), Deadline(60), check)
        except BundleError as error:
            raise (differs if error.code == "endless_data" else error) from None

    def folders(self) -> list[str]:
        """Return the names of the folders below the address, sorted."""
        prefix = f"{self.address.prefix}/" if self.address.prefix else ""
        try:
            found = self._client.list_blobs(self._bucket, prefix=prefix, delimiter="/", timeout=30)
            for _ in found:
                continue
        except Exception as error:  # see `read`
            raise self._translate(error, "")[0] from error
        return sorted(name[len(prefix) :].rstrip("/") for name in found.prefixes)

    def _download(self, file: str, limit_bytes: int, deadline: Deadline) -> bytes:
        """Try once; the client's own retries are off, as they would go on after the deadline."""
        deadline.check()
        sink = _Capped(limit_bytes, deadline)
        blob = self._bucket.blob(self.address.object_name(file))
        timeout = (min(CONNECT_SECONDS, deadline.remaining()), min(READ_SECONDS, deadline.remaining()))
        blob.download_to_file(sink, raw_download=True, timeout=timeout, retry=None, checksum=None)
        return sink.getvalue()

    def _translate(self, error: Exception, file: str) -> tuple[BundleError, bool]:
        """Return our refusal for a client's exception, and whether another try may help."""
        if isinstance(error, BundleError):
            return error, False
        where = f"gs://{self.address.bucket}/{self.address.object_name(file)}"
        if isinstance(error, self._exceptions.NotFound):
            return BundleError("object_missing", f"{where} does not exist"), False
        if isinstance(error, self._forbidden):
            reason = (
                f"{where} is refused; grant roles/storage.objectViewer (to upload also objectCreator) on the bucket"
            )
            return BundleError("store_forbidden", reason), False
        status = getattr(error, "code", None)
        is_final = isinstance(status, int) and 400 <= status < 500 and status not in (408, 429)
        kind = f"{type(error).__name__} {status}" if isinstance(status, int) else type(error).__name__
        return BundleError("store_unreachable", f"{where} could not be reached: {kind}"), not is_final


def in_parallel(jobs: Mapping[str, Callable[[], T]], deadline: Deadline) -> dict[str, T]:
    """Run every job in a thread of its own and wait for all, but never beyond the deadline.

    A server may send a byte a second for ever, which no read timeout notices; such a thread is left behind and ends
    with its connection.

    Raises:
        BundleError: the first error of a job, or `fetch_timeout`.
    """
    futures: dict[str, Future[T]] = {}
    for name, job in jobs.items():
        futures[name] = Future()
        threading.Thread(target=_run, args=(job, futures[name]), daemon=True, name=f"fetch {name}").start()
    results = {}
    for name, future in futures.items():
        try:
            results[name] = future.result(timeout=deadline.remaining())
        except TimeoutError as error:
            raise deadline.error() from error
    return results


def _run(job: Callable[[], T], future: Future[T]) -> None:
    """Run a job and keep its outcome."""
    try:
        future.set_result(job())
    except BaseException as error:  # noqa: BLE001 - handed to whoever waits
        future.set_exception(error)


def _drain_refusal(response: Any, *_: Any, **__: Any) -> None:
    """Read a refused response to its end, so that its connection is not leaked."""
    if response.status_code >= 400:
        _ = response.content


def _pauses() -> Any:
    """Return growing pauses with jitter, in seconds."""
    from google.api_core.retry.retry_base import exponential_sleep_generator

    return exponential_sleep_generator(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)


def _content_type(file: str) -> str:
    """Return the content type of a bundle's file."""
    return "application/json" if file.endswith(".json") else "application/octet-stream"
