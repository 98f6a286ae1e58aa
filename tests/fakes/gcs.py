"""A fake Cloud Storage on loopback for the real client: generations, preconditions, and faults on demand.

    with FakeStorage() as fake, fake.client() as client:
        fake.put("models", "a/model.json", b"...")
        fake.faults.add(Fault("truncate", match="model.json", at=10))
        client.bucket("models").blob("a/model.json").download_as_bytes()

Other processes reach it with `fake.environment()`. `python -m tests.fakes.gcs --port 0` runs one by itself and prints
its address on the first line; that one has no faults and no log.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.gcs_faults import Fault, FaultQueue
from tests.fakes.gcs_objects import Store
from tests.fakes.gcs_routes import Reply, Request, Routes
from tests.fakes.gcs_stored import Refused
from tests.fakes.gcs_wire import Server

if TYPE_CHECKING:
    from google.cloud import storage

__all__ = ["FakeStorage", "Fault", "Refused", "Seen", "fake_storage", "tidy"]

_LOGGED = re.compile(r"range|content-.*|x-upload-content-.*|x-goog-(hash|api-client)|user-agent|accept-encoding")


@dataclass(frozen=True)
class Seen:
    """One request as it came, and how it was answered; `status` is None when the reply was a reset."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    op: str
    bucket: str
    name: str
    status: int | None
    fault: str | None


class FakeStorage:
    """A running fake; use it in a `with`, or as the fixture `fake_storage`."""

    def __init__(self, *, versioning: bool = False, port: int = 0) -> None:
        """Prepare a fake.

        Args:
            versioning: whether new buckets keep old generations, unless told otherwise.
            port: 0 lets the system choose.
        """
        self.faults = FaultQueue()
        self._versioning = versioning
        self._store = Store()
        self._routes = Routes(self._store, versioning=versioning)
        self._log: list[Seen] = []
        self._logged = threading.Condition()
        self._server: Server | None = None
        self.port = port
        self.url = ""

    def __enter__(self) -> FakeStorage:
        self._server = Server(self.port, self._exchange)
        self.port = self._server.server_port
        self.url = self._routes.url = f"http://127.0.0.1:{self.port}"
        self._server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End every connection, stalled ones too, and leave neither threads nor sockets; a second time does nothing.

        Raises:
            RuntimeError: the fake itself broke on a request; its cause says how.
        """
        server, self._server = self._server, None
        if server is not None:
            server.stop()
            if server.crashes:
                raise RuntimeError("the fake itself broke on a request") from server.crashes[0]

    def client(self) -> storage.Client:
        """Make a real client of this fake, with anonymous credentials; close it, or use it in a `with`."""
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage

        options = {"api_endpoint": self.url}
        return tidy(storage.Client(project="fake", credentials=AnonymousCredentials(), client_options=options))

    def environment(self) -> dict[str, str]:
        """Variables that bring the Python client of another process here, without its background look at the bucket."""
        return {
            "STORAGE_EMULATOR_HOST": self.url,
            "DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA": "true",
            "NO_PROXY": "127.0.0.1",
        }

    def create_bucket(self, bucket: str, *, versioning: bool | None = None) -> None:
        """Make a bucket; `Refused` (409) when it exists."""
        self._store.create(bucket, versioning=self._versioning if versioning is None else versioning)

    def put(self, bucket: str, name: str, content: bytes, *, content_type: str = "application/octet-stream") -> int:
        """Store an object, making its bucket where that is missing, and return its generation."""
        with contextlib.suppress(Refused):
            self.create_bucket(bucket)
        return self._store.insert(bucket, name, content, content_type=content_type).generation

    def get(self, bucket: str, name: str, generation: int | None = None) -> bytes:
        """Read what is truly stored, past all faults; `Refused` (404) when there is nothing."""
        return self._store.find(bucket, name, generation).content

    def generation(self, bucket: str, name: str) -> int:
        """Tell the live generation; `Refused` (404) when there is none."""
        return self._store.find(bucket, name).generation

    def delete(self, bucket: str, name: str) -> None:
        """Delete the live object; `Refused` (404) when there is none."""
        self._store.delete(bucket, name)

    def names(self, bucket: str, prefix: str = "") -> list[str]:
        """List all live names, sorted; `Refused` (404) when there is no such bucket."""
        return self._store.names(bucket, prefix)

    @property
    def requests(self) -> tuple[Seen, ...]:
        """All requests so far, in order of their replies' beginning; a reply is logged before its first byte leaves."""
        with self._logged:
            return tuple(self._log)

    def seen(self, op: str | None = None, match: str = "") -> list[Seen]:
        """Requests of one operation (see `Fault.op`) whose object's name has `match` in it."""
        return [one for one in self.requests if op in (None, one.op) and match in one.name]

    def await_seen(self, count: int, op: str | None = None, match: str = "", timeout_seconds: float = 10) -> list[Seen]:
        """Wait until `seen` has at least `count` entries and return them.

        Raises:
            TimeoutError: it took longer than `timeout_seconds`.
        """
        with self._logged:
            if not self._logged.wait_for(lambda: len(self.seen(op, match)) >= count, timeout_seconds):
                raise TimeoutError(f"{len(self.seen(op, match))} of {count} requests came: {self._log}")
            return self.seen(op, match)

    def _exchange(self, request: Request) -> tuple[Reply | None, Fault | None]:
        fault = self.faults.take(request)
        reply = None if fault and fault.replaces_work else self._routes.answer(request)
        if fault:
            reply = fault.bend(reply, request)
        seen = Seen(
            request.method,
            request.path,
            request.query,
            {name: value for name, value in request.headers.items() if _LOGGED.fullmatch(name)},
            request.op,
            request.bucket,
            request.name,
            reply.status if reply else None,
            fault.kind if fault else None,
        )
        with self._logged:
            self._log.append(seen)
            self._logged.notify_all()
        return reply, fault


def tidy(client: storage.Client) -> storage.Client:
    """Have a real client read the bodies of refusals.

    By itself (3.17) it leaves them unread for downloads, and with them an open socket for the garbage collector to
    find, which is a ResourceWarning in some later test.
    """

    def read(response: Any, **_: Any) -> None:
        if response.status_code >= 400:
            response.content  # noqa: B018 - reading it is the purpose

    client._http.hooks["response"].append(read)
    return client


@pytest.fixture
def fake_storage() -> Iterator[FakeStorage]:
    """A fake without buckets. Bring it in with `from tests.fakes.gcs import fake_storage as fake_storage`."""
    with FakeStorage() as fake:
        yield fake


def main(arguments: Sequence[str] | None = None, say: Callable[[str], Any] = print) -> int:
    """Run a fake until SIGTERM or SIGINT; the first line said is its address."""
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.gcs", description=main.__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 lets the system choose")
    parser.add_argument("--bucket", action="append", default=[], help="make a bucket; may be repeated")
    parser.add_argument("--versioning", action="store_true", help="buckets keep old generations")
    chosen = parser.parse_args(arguments)
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    with FakeStorage(versioning=chosen.versioning, port=chosen.port) as fake:
        for bucket in chosen.bucket:
            fake.create_bucket(bucket)
        say(fake.url)
        done.wait()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
