"""Writes a bundle to disk: whole or not at all, under the name of its own digest."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from model import manifest as manifests
from model.errors import BundleError
from model.manifest import Manifest, Part

MANIFEST = "manifest.json"
CURRENT = "current"

# how names of things under way begin
UNFINISHED = ".writing-"


@dataclass(frozen=True)
class WrittenBundle:
    """Where a bundle lies and what it is called.

    Attributes:
        folder: `<root>/<name>/<hex>`.
        digest: `sha256:<hex>`.
    """

    folder: Path
    digest: str


def part(name: str, payload: bytes) -> Part:
    """Describe one file for the manifest."""
    return Part(name=name, size_bytes=len(payload), sha256=hashlib.sha256(payload).hexdigest())  # type: ignore[arg-type]


def write(root: Path, manifest: Manifest, files: Mapping[str, bytes]) -> WrittenBundle:
    """Write a bundle atomically below `root`; `make_current` then lets `make run` find it.

    Args:
        root: the folder of all bundles.
        manifest: names exactly `files`.
        files: name → bytes.

    Returns:
        Where it lies. Writing the same bundle twice leaves the first one in place.

    Raises:
        BundleError: `manifest_inconsistent` if manifest and files do not agree, `manifest_too_large`.
    """
    described = {p.name: p for p in manifest.files}
    if described != {name: part(name, payload) for name, payload in files.items()}:
        raise BundleError("manifest_inconsistent", "the manifest does not describe the files it is written with")
    raw = manifests.encode(manifest)
    if len(raw) > manifests.MAX_MANIFEST_BYTES:
        limit = manifests.MAX_MANIFEST_BYTES
        raise BundleError(
            "manifest_too_large", f"manifest.json has {len(raw)} bytes, more than {limit}; use fewer features"
        )
    manifests.decode(raw)
    digest = manifests.digest(raw)
    home = root / manifest.name
    folder = home / bare(digest)
    home.mkdir(parents=True, exist_ok=True)
    if not folder.exists():
        write_folder(home, folder, {**files, MANIFEST: raw})
    return WrittenBundle(folder, digest)


def make_current(written: WrittenBundle) -> None:
    """Make a bundle the current one of its name, after it has been verified and proven."""
    replace(written.folder.parent / CURRENT, (bare(written.digest) + "\n").encode())


def current(root: Path, name: str) -> Path | None:
    """Return the folder that `current` points to, or None if there is no such bundle."""
    try:
        digest = (root / name / CURRENT).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    folder = root / name / digest
    return folder if digest and (folder / MANIFEST).is_file() else None


def resolve(folder: Path) -> Path:
    """Return the bundle a folder stands for: itself, or what its file `current` names.

    Raises:
        BundleError: `bundle_missing` if there is no such folder.
    """
    pointer = folder / CURRENT
    found = folder / pointer.read_text(errors="replace").strip() if pointer.is_file() else folder
    if not found.is_dir():
        raise BundleError("bundle_missing", f"{found} is not a folder; name a bundle folder (make train writes one)")
    return found


def bare(digest: str) -> str:
    """Return the 64 hex characters of a digest given with or without `sha256:`."""
    return digest.removeprefix("sha256:")


def write_folder(home: Path, folder: Path, files: Mapping[str, bytes]) -> None:
    """Write every file beside the target, make them durable, then rename the whole folder into place."""
    scratch = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=home))
    try:
        for name, payload in files.items():
            _write_durably(scratch / name, payload)
        scratch.chmod(0o755)
        _sync_folder(scratch)
        # another process may have written the same bytes first: then its folder is as good as ours
        try:
            scratch.rename(folder)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
        _sync_folder(home)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def replace(path: Path, payload: bytes) -> None:
    """Replace a small file so that a reader sees the old or the new content, never a part."""
    descriptor, scratch = tempfile.mkstemp(prefix=UNFINISHED, dir=path.parent)
    os.close(descriptor)
    try:
        _write_durably(Path(scratch), payload)
        Path(scratch).chmod(0o644)
        os.replace(scratch, path)
    finally:
        Path(scratch).unlink(missing_ok=True)
    _sync_folder(path.parent)


def _write_durably(path: Path, payload: bytes) -> None:
    """Write a file and wait until the disk has it."""
    with path.open("wb") as file:
        file.write(payload)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Wait until the disk has the folder's entries."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
