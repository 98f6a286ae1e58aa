"""Reads a bundle and believes nothing: what is hashed here is what the engine loads."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

from model import inspect, manifest_checks, signing
from model import manifest as manifests
from model.bundle import CURRENT, MANIFEST, bare
from model.errors import BundleError
from model.manifest import FILES, MAX_MANIFEST_BYTES, EngineName, Manifest, Part
from model.signing import MAX_SIGNATURE_BYTES, SIGNATURE, PublicKeys
from model.store import Bucket, Deadline, in_parallel

# far above any tabular model; a manifest that declares more is not believed
MAX_BUNDLE_BYTES = 2 << 30


@dataclass(frozen=True)
class VerifiedBundle:
    """A bundle whose bytes are what its manifest says, held in memory.

    Attributes:
        manifest: the parsed contract.
        digest: `sha256:<hex>` of its exact bytes.
        files: name → bytes, exactly the files the manifest names.
        raw_manifest: the exact bytes of the manifest.
        raw_signature: the exact bytes of the signature, None if there is none or none was asked for.
        seconds: what it took to `fetch` (and hash) and to `verify` (signature and structure).
        unseen: the files whose structure nobody has looked at; `model.predictor.load` does before an engine loads one.
    """

    manifest: Manifest
    digest: str
    files: Mapping[str, bytes]
    raw_manifest: bytes = b""
    raw_signature: bytes | None = None
    seconds: Mapping[str, float] = field(default_factory=dict, compare=False)
    unseen: frozenset[str] = field(default=frozenset(), compare=False)


class Source(Protocol):
    """Where a bundle's bytes come from."""

    def manifest(self, expected_digest: str | None) -> bytes:
        """Return the manifest's bytes, at most 8 MiB."""
        ...

    def rest(self, parts: Sequence[Part], *, with_signature: bool) -> tuple[dict[str, bytes], bytes | None]:
        """Return the bytes of the parts, each of the right size and hash, and the signature's if there is one."""
        ...


class Folder:
    """A bundle on disk."""

    def __init__(self, path: Path) -> None:
        """Name the folder; it is opened file by file."""
        self._path = path

    def manifest(self, expected_digest: str | None) -> bytes:
        """See `Source.manifest`."""
        if not self._path.is_dir():
            raise BundleError(
                "bundle_missing", f"{self._path} is not a folder; name a bundle folder (make train writes one)"
            )
        if not os.path.lexists(self._path / MANIFEST) and (self._path / CURRENT).is_file():
            newest = (self._path / CURRENT).read_text(errors="replace").strip()
            raise BundleError("file_missing", f"{self._path} holds versions of a bundle; name one: {newest[:64]}")
        raw = _read_file(self._path / MANIFEST, MAX_MANIFEST_BYTES)
        check_digest(raw, expected_digest)
        return raw

    def rest(self, parts: Sequence[Part], *, with_signature: bool) -> tuple[dict[str, bytes], bytes | None]:
        """See `Source.rest`; also refuses a folder that holds anything the manifest does not name."""
        allowed = {MANIFEST, SIGNATURE, *(part.name for part in parts)}
        for name in sorted(os.listdir(self._path)):
            if name not in allowed:
                raise BundleError("extra_file", f"{name!r} is in the bundle but not in its manifest")
        files: dict[str, bytes] = {}
        for part in parts:
            files[part.name] = _read_file(self._path / part.name, part.size_bytes)
            check_part(part, files[part.name])
        has_signature = with_signature and os.path.lexists(self._path / SIGNATURE)
        return files, _read_file(self._path / SIGNATURE, MAX_SIGNATURE_BYTES) if has_signature else None


class Remote:
    """A bundle in a bucket; only what the manifest names is asked for."""

    def __init__(self, bucket: Bucket, deadline: Deadline) -> None:
        """Name the bucket and when to give up."""
        self._bucket, self._deadline = bucket, deadline

    def manifest(self, expected_digest: str | None) -> bytes:
        """See `Source.manifest`."""

        def job() -> bytes:
            return self._bucket.read(
                MANIFEST, MAX_MANIFEST_BYTES, self._deadline, lambda raw: check_digest(raw, expected_digest)
            )

        return in_parallel({MANIFEST: job}, self._deadline)[MANIFEST]

    def rest(self, parts: Sequence[Part], *, with_signature: bool) -> tuple[dict[str, bytes], bytes | None]:
        """See `Source.rest`."""
        jobs: dict[str, Callable[[], bytes | None]] = {part.name: partial(self._part, part) for part in parts}
        if with_signature:
            jobs[SIGNATURE] = self._signature
        found = in_parallel(jobs, self._deadline)
        signature = found.pop(SIGNATURE, None)
        return {name: payload for name, payload in found.items() if payload is not None}, signature

    def _part(self, part: Part) -> bytes | None:
        """Download one file."""
        return self._bucket.read(part.name, part.size_bytes, self._deadline, lambda raw: check_part(part, raw))

    def _signature(self) -> bytes | None:
        """Download the signature, None if there is none."""
        try:
            return self._bucket.read(SIGNATURE, MAX_SIGNATURE_BYTES, self._deadline, lambda _: None)
        except BundleError as error:
            if error.code == "object_missing":
                return None
            raise


def read(
    source: Path | Source,
    expected_digest: str | None = None,
    keys: PublicKeys | None = None,
    learn: Callable[[Manifest], None] | None = None,
    *,
    only: EngineName | Literal["default"] | None = None,
) -> VerifiedBundle:
    """Read a bundle and check every byte before anything is loaded from it: hashes, then signature, then structure.

    Args:
        source: a folder, or where else the bytes come from.
        expected_digest: the digest it must have, with or without `sha256:`; None accepts any.
        keys: who must have signed it; None asks for no signature.
        learn: told the manifest as soon as it has the expected digest, whatever becomes of the files it names.
        only: the engine that is going to load it, or `default` for the manifest's own choice: the structure of a file
            that it does not load is not looked at. None looks at all of them.

    Raises:
        BundleError: `bundle_missing`, `digest_mismatch`, `extra_file`, `not_a_regular_file`, `file_missing`,
            `size_mismatch`, `hash_mismatch`, `declared_too_large`, `unreadable`, one of `model.manifest.decode`, of
            `model.manifest_checks.check`, of `model.signing.verify`, of `model.inspect.check`, or of `model.store`.
    """
    source = Folder(source) if isinstance(source, Path) else source
    start = time.perf_counter()
    raw = source.manifest(expected_digest)
    manifest = manifests.decode(raw)
    manifest_checks.check(manifest)
    if learn is not None and expected_digest is not None:
        learn(manifest)
    if sum(part.size_bytes for part in manifest.files) > MAX_BUNDLE_BYTES:
        raise BundleError("declared_too_large", f"the manifest declares more than {MAX_BUNDLE_BYTES} bytes")
    files, signature = source.rest(manifest.files, with_signature=keys is not None)
    fetched = time.perf_counter()
    digest = manifests.digest(raw)
    if keys is not None:
        expected: dict[str, str] = {MANIFEST: bare(digest)} | {str(p.name): p.sha256 for p in manifest.files}
        signing.verify(signature, keys, expected)
    unseen = _unseen(manifest, only)
    inspect.check({name: payload for name, payload in files.items() if name not in unseen}, manifest)
    seconds = {"fetch": fetched - start, "verify": time.perf_counter() - fetched}
    return VerifiedBundle(manifest, digest, files, raw, signature, seconds, unseen)


def _unseen(manifest: Manifest, only: EngineName | Literal["default"] | None) -> frozenset[str]:
    """Return the files that an engine does not load; whoever explains loads `model.json`, so that is always seen."""
    if only is None:
        return frozenset()
    engine = manifest.engines.default if only == "default" else only
    return frozenset(part.name for part in manifest.files) - {FILES[engine], FILES["xgboost"]}


def check_digest(raw: bytes, expected_digest: str | None) -> None:
    """Raise BundleError `digest_mismatch` if a manifest is not the expected one."""
    digest = manifests.digest(raw)
    if expected_digest is not None and bare(expected_digest) != bare(digest):
        raise BundleError("digest_mismatch", f"the bundle is {digest}, not {expected_digest}")


def check_part(part: Part, payload: bytes) -> None:
    """Raise BundleError `size_mismatch` or `hash_mismatch` if a file is not the one its manifest names."""
    if len(payload) != part.size_bytes:
        raise BundleError("size_mismatch", f"{part.name} has {len(payload)} bytes, the manifest says {part.size_bytes}")
    if hashlib.sha256(payload).hexdigest() != part.sha256:
        raise BundleError("hash_mismatch", f"{part.name} is not the file the manifest names")


def _read_file(path: Path, limit_bytes: int) -> bytes:
    """Read a regular file of at most `limit_bytes`, never through a symbolic link."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise BundleError("file_missing", f"{path.name} is missing") from error
    except OSError as error:
        code = "not_a_regular_file" if path.is_symlink() else "unreadable"
        raise BundleError(code, f"{path.name} cannot be read: {error.strerror}") from error
    try:
        # before open(), which refuses a folder in its own words
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BundleError("not_a_regular_file", f"{path.name} is not a regular file")
        if status.st_size > limit_bytes:
            raise BundleError("size_mismatch", f"{path.name} is larger than {limit_bytes} bytes")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(limit_bytes + 1)
    finally:
        os.close(descriptor)
