"""A bundle is written whole or not at all, under the name of its own digest."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from model import bundle, verify
from model import manifest as manifests
from model.errors import BundleError
from model.manifest import MAX_MANIFEST_BYTES, Manifest
from model.verify import VerifiedBundle


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_bundle_is_addressed_by_its_digest(penguins: VerifiedBundle, tmp_path):
    written = bundle.write(tmp_path, penguins.manifest, penguins.files)

    assert penguins.digest == written.digest
    assert tmp_path / "penguins" / written.digest.removeprefix("sha256:") == written.folder
    assert names(written.folder) == ["manifest.json", "model.json", "model.onnx"]
    assert penguins == verify.read(written.folder, written.digest)


def test_folder_and_files_can_be_read_by_others(penguins: VerifiedBundle, tmp_path):
    written = bundle.write(tmp_path, penguins.manifest, penguins.files)

    assert written.folder.stat().st_mode & 0o777 == 0o755
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in written.folder.iterdir())


def test_writing_twice_keeps_the_first(penguins: VerifiedBundle, tmp_path):
    first = bundle.write(tmp_path, penguins.manifest, penguins.files)
    inode = (first.folder / "manifest.json").stat().st_ino

    second = bundle.write(tmp_path, penguins.manifest, penguins.files)

    assert first == second
    assert inode == (second.folder / "manifest.json").stat().st_ino
    assert [first.folder.name] == names(tmp_path / "penguins")


def test_another_manifest_lies_beside_it(penguins: VerifiedBundle, tmp_path):
    first = bundle.write(tmp_path, penguins.manifest, penguins.files)
    second = bundle.write(tmp_path, replace(penguins.manifest, serial=2), penguins.files)

    assert sorted([first.folder.name, second.folder.name]) == names(tmp_path / "penguins")


WRONG_FILES = {
    "one byte changed": lambda files: {**files, "model.onnx": files["model.onnx"][:-1] + b"?"},
    "one missing": lambda files: {"model.json": files["model.json"]},
    "one more": lambda files: {**files, "notes.txt": b""},
}


@pytest.mark.parametrize("change", WRONG_FILES.values(), ids=WRONG_FILES)
def test_files_the_manifest_does_not_describe_are_not_written(penguins: VerifiedBundle, tmp_path, change):
    with pytest.raises(BundleError, match="does not describe the files") as caught:
        bundle.write(tmp_path, penguins.manifest, change(dict(penguins.files)))

    assert caught.value.code == "manifest_inconsistent"
    assert names(tmp_path) == []


def test_manifest_that_contradicts_itself_is_not_written(penguins: VerifiedBundle, tmp_path):
    with pytest.raises(BundleError, match="classes must be") as caught:
        bundle.write(tmp_path, replace(penguins.manifest, classes=("one",)), penguins.files)

    assert caught.value.code == "manifest_inconsistent"
    assert names(tmp_path) == []


def test_manifest_too_large_to_be_read_again_is_not_written(penguins: VerifiedBundle, tmp_path):
    with pytest.raises(BundleError, match="more than 8388608; use fewer features") as caught:
        bundle.write(tmp_path, replace(penguins.manifest, title="x" * MAX_MANIFEST_BYTES), penguins.files)

    assert caught.value.code == "manifest_too_large"
    assert names(tmp_path) == []


def test_folder_that_appears_while_writing_is_as_good(penguins: VerifiedBundle, tmp_path):
    raw = manifests.encode(penguins.manifest)
    folder = tmp_path / "there"
    folder.mkdir()
    (folder / "manifest.json").write_bytes(raw)

    bundle.write_folder(tmp_path, folder, {"manifest.json": b"later"})

    assert raw == (folder / "manifest.json").read_bytes()
    assert names(tmp_path) == ["there"]


def test_nothing_is_left_behind_when_the_target_cannot_be(tmp_path):
    (tmp_path / "there").write_bytes(b"a file")

    with pytest.raises(NotADirectoryError):
        bundle.write_folder(tmp_path, tmp_path / "there", {"manifest.json": b"{}"})

    assert names(tmp_path) == ["there"]


def test_nothing_is_left_behind_when_a_file_cannot_be_written(tmp_path):
    with pytest.raises(FileNotFoundError):
        bundle.write_folder(tmp_path, tmp_path / "there", {"a": b"1", "no/such/folder": b"2"})

    assert names(tmp_path) == []


def _write_many(root: Path, digest_of: Path, start, results) -> None:
    """Write thirty bundles, each at the same moment as the other process."""
    source = verify.read(digest_of)
    for serial in range(2, 32):
        start.wait(60)
        results.put((serial, bundle.write(root, replace(source.manifest, serial=serial), source.files).digest))


def test_two_processes_that_write_the_same_bundles_both_succeed(bundles: dict[str, Path], tmp_path):
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(2), context.Queue()
    writers = [context.Process(target=_write_many, args=(tmp_path, bundles["iris"], start, results)) for _ in range(2)]
    for writer in writers:
        writer.start()
    found = sorted(results.get(timeout=60) for _ in range(60))
    for writer in writers:
        writer.join(60)

    assert [writer.exitcode for writer in writers] == [0, 0]
    assert found[::2] == found[1::2]
    assert sorted(bundle.bare(digest) for _, digest in found[::2]) == names(tmp_path / "iris")
    for _, digest in found[::2]:
        assert digest == verify.read(tmp_path / "iris" / bundle.bare(digest), digest).digest


def test_current_follows_make_current(penguins: VerifiedBundle, tmp_path):
    first = bundle.write(tmp_path, penguins.manifest, penguins.files)
    second = bundle.write(tmp_path, replace(penguins.manifest, serial=2), penguins.files)

    assert bundle.current(tmp_path, "penguins") is None
    bundle.make_current(first)
    assert first.folder == bundle.current(tmp_path, "penguins")
    bundle.make_current(second)
    assert second.folder == bundle.current(tmp_path, "penguins")

    pointer = tmp_path / "penguins" / "current"
    assert f"{second.folder.name}\n" == pointer.read_text()
    assert pointer.stat().st_mode & 0o777 == 0o644
    assert len(names(tmp_path / "penguins")) == 3


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"0" * 64, b"\xff\xfe", b"\0"], ids=["empty", "blank", "no such bundle", "binary", "nul"]
)
def test_pointer_to_nothing_is_no_bundle(tmp_path, content):
    (tmp_path / "penguins").mkdir()
    (tmp_path / "penguins" / "current").write_bytes(content)

    assert bundle.current(tmp_path, "penguins") is None


def test_pointer_that_cannot_be_replaced_leaves_no_scratch(tmp_path):
    (tmp_path / "current").mkdir()
    (tmp_path / "current" / "in the way").write_text("")

    with pytest.raises(IsADirectoryError):
        bundle.make_current(bundle.WrittenBundle(tmp_path / "abc", "sha256:abc"))

    assert names(tmp_path) == ["current"]


@pytest.mark.parametrize("digest", ["sha256:00ff", "00ff"])
def test_bare_digest_has_no_prefix(digest):
    assert bundle.bare(digest) == "00ff"


def test_part_describes_its_payload(manifest: Manifest, penguins: VerifiedBundle):
    assert manifest.files == tuple(bundle.part(name, payload) for name, payload in sorted(penguins.files.items()))


def test_folder_stands_for_itself_or_for_what_current_names(tmp_path):
    (tmp_path / "abc").mkdir()
    assert bundle.resolve(tmp_path) == tmp_path

    (tmp_path / "current").write_text("abc\n")
    assert bundle.resolve(tmp_path) == tmp_path / "abc"


@pytest.mark.parametrize("content", [None, b"gone\n", b"\xff\xfe", b"\0"], ids=["none", "gone", "binary", "nul"])
def test_folder_that_stands_for_nothing_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "there").mkdir()
        (tmp_path / "there" / "current").write_bytes(content)

    with pytest.raises(BundleError, match="is not a folder") as caught:
        bundle.resolve(tmp_path / "there")

    assert caught.value.code == "bundle_missing"
