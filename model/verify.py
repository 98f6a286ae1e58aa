"""Reads a bundle and believes nothing: what is hashed here is what the engine loads."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model import manifest as manifests
from model.bundle import MANIFEST, bare
from model.errors import BundleError
from model.manifest import MAX_MANIFEST_BYTES, Manifest, Part

SIGNATURE = "signature.json"


@dataclass(frozen=True)
class VerifiedBundle:
    """A bundle whose bytes are what its manifest says, held in memory.

    Attributes:
        manifest: the parsed contract.
        digest: `sha256:<hex>` of its exact bytes.
        files: name → bytes, exactly the files the manifest names.
    """

    manifest: Manifest
    digest: str
    files: Mapping[str, bytes]


def read(folder: Path, expected_digest: str | None = None) -> VerifiedBundle:
    """Read a bundle folder and check every byte before anything is loaded from it.

    Args:
        folder: the bundle.
        expected_digest: the digest it must have, with or without `sha256:`; None accepts any.

    Raises:
        BundleError: `bundle_missing`, `digest_mismatch`, `extra_file`, `not_a_regular_file`, `file_missing`,
            `size_mismatch`, `hash_mismatch`, `unreadable`, or one of `model.manifest.decode`.
    """
    if not folder.is_dir():
        raise BundleError("bundle_missing", f"{folder} is not a folder; name a bundle folder (make train writes one)")
    raw = _read_file(folder / MANIFEST, MAX_MANIFEST_BYTES)
    digest = manifests.digest(raw)
    if expected_digest is not None and bare(expected_digest) != bare(digest):
        raise BundleError("digest_mismatch", f"the bundle is {digest}, not {expected_digest}")
    manifest = manifests.decode(raw)
    _refuse_extras(folder, manifest)
    return VerifiedBundle(manifest, digest, {part.name: _read_part(folder, part) for part in manifest.files})


def _refuse_extras(folder: Path, manifest: Manifest) -> None:
    """Refuse a folder that holds anything the manifest does not name."""
    allowed = {MANIFEST, SIGNATURE, *(part.name for part in manifest.files)}
    for name in sorted(os.listdir(folder)):
        if name not in allowed:
            raise BundleError("extra_file", f"{name!r} is in the bundle but not in its manifest")


def _read_part(folder: Path, part: Part) -> bytes:
    """Read one file and compare its size and hash with the manifest."""
    payload = _read_file(folder / part.name, part.size_bytes)
    if len(payload) != part.size_bytes:
        raise BundleError("size_mismatch", f"{part.name} has {len(payload)} bytes, the manifest says {part.size_bytes}")
    if hashlib.sha256(payload).hexdigest() != part.sha256:
        raise BundleError("hash_mismatch", f"{part.name} is not the file the manifest names")
    return payload


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
