"""Every kind of damage is noticed before anything is loaded, and has its own reason code."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from model import bundle, predictor, verify
from model import manifest as manifests
from model.errors import BundleError
from model.manifest import MAX_MANIFEST_BYTES
from model.store import Bucket, Deadline, parse
from model.verify import Remote, VerifiedBundle
from tests.fakes.gcs import FakeStorage, Fault
from tests.fakes.gcs import fake_storage as fake_storage
from tests.unit.model.conftest import Signed, no_thread_left


def refusal(folder: Path, expected_digest: str | None = None) -> BundleError:
    with pytest.raises(BundleError) as caught:
        verify.read(folder, expected_digest)
    return caught.value


@pytest.mark.parametrize("prefix", ["", "sha256:"], ids=["bare", "with prefix"])
def test_sound_bundle_is_read_under_its_digest(bundles: dict[str, Path], prefix):
    folder = bundles["penguins"]

    found = verify.read(folder, prefix + folder.name)

    assert "sha256:" + folder.name == found.digest
    assert {"model.json", "model.onnx"} == set(found.files)
    assert all((folder / name).read_bytes() == payload for name, payload in found.files.items())


def test_signature_is_the_only_other_file_allowed(copy: Path, penguins: VerifiedBundle):
    (copy / "signature.json").write_text("{}")

    assert penguins == verify.read(copy)


def _replace_by(make):
    def damage(folder: Path) -> None:
        path = folder / "model.onnx"
        target = path.rename(folder.parent / "aside")
        make(path, target)

    return damage


def _flip(folder: Path) -> None:
    path = folder / "model.onnx"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def _socket(path: Path, target: Path) -> None:
    os.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)


def _rewrite_manifest(**changes):
    def damage(folder: Path) -> None:
        path = folder / "manifest.json"
        path.write_bytes(manifests.encode(replace(manifests.decode(path.read_bytes()), **changes)))

    return damage


DAMAGE = {
    "manifest missing": (lambda f: (f / "manifest.json").unlink(), "file_missing", "manifest.json is missing"),
    "folder of versions": (
        lambda f: (f / "manifest.json").unlink() or (f / "current").write_text("0a1b\n"),
        "file_missing",
        "holds versions of a bundle; name one: 0a1b",
    ),
    "manifest empty": (lambda f: (f / "manifest.json").write_bytes(b""), "manifest_malformed", "cannot be read"),
    "manifest too long": (
        lambda f: (f / "manifest.json").write_bytes(b" " * (MAX_MANIFEST_BYTES + 1)),
        "size_mismatch",
        "manifest.json is larger than 8388608 bytes",
    ),
    "manifest is a folder": (
        lambda f: (f / "manifest.json").unlink() or (f / "manifest.json").mkdir(),
        "not_a_regular_file",
        "manifest.json is not a regular file",
    ),
    "other format": (_rewrite_manifest(format=99), "manifest_format", "format 99 is not 1"),
    "inconsistent": (_rewrite_manifest(classes=("one",)), "manifest_inconsistent", "classes must be"),
    "file missing": (lambda f: (f / "model.json").unlink(), "file_missing", "model.json is missing"),
    "extra file": (lambda f: (f / "notes.txt").write_text(""), "extra_file", "'notes.txt' is in the bundle but not"),
    "hidden file": (lambda f: (f / ".x").write_text(""), "extra_file", "'.x'"),
    "extra folder": (lambda f: (f / "sub").mkdir(), "extra_file", "'sub'"),
    "symbolic link": (_replace_by(lambda p, t: p.symlink_to(t)), "not_a_regular_file", "model.onnx cannot be read"),
    "fifo": (_replace_by(lambda p, t: os.mkfifo(p)), "not_a_regular_file", "model.onnx is not a regular file"),
    "folder": (_replace_by(lambda p, t: p.mkdir()), "not_a_regular_file", "model.onnx is not a regular file"),
    "socket": (_replace_by(_socket), "unreadable", "model.onnx cannot be read"),
    "flipped bit": (_flip, "hash_mismatch", "model.onnx is not the file the manifest names"),
    "truncated": (
        lambda f: os.truncate(f / "model.onnx", 100),
        "size_mismatch",
        "model.onnx has 100 bytes, the manifest says",
    ),
    "longer": (
        lambda f: os.truncate(f / "model.onnx", (f / "model.onnx").stat().st_size + 1),
        "size_mismatch",
        "model.onnx is larger than",
    ),
    "files exchanged": (
        lambda f: (f / "model.json").write_bytes((f / "model.onnx").read_bytes()),
        "size_mismatch",
        "model.json",
    ),
}


@pytest.mark.parametrize(("damage", "code", "reason"), DAMAGE.values(), ids=DAMAGE)
def test_damage_has_its_own_reason_code(copy: Path, monkeypatch: pytest.MonkeyPatch, damage, code, reason):
    monkeypatch.chdir(copy.parent)  # one kind of damage needs a short path, and must not stay there
    damage(copy)

    found = refusal(copy)

    assert code == found.code
    assert reason in found.reason
    assert f"{code}: {found.reason}" == str(found)


@pytest.mark.parametrize("place", ["none", "none/deeper"])
def test_no_folder_is_no_bundle(tmp_path, place):
    found = refusal(tmp_path / place)

    assert found.code == "bundle_missing"
    assert "name a bundle folder" in found.reason


def test_file_is_no_bundle(copy: Path):
    assert refusal(copy / "manifest.json").code == "bundle_missing"


@pytest.mark.parametrize("expected", ["0" * 64, "sha256:" + "0" * 64, ""], ids=["bare", "with prefix", "empty"])
def test_other_digest_than_the_pinned_one_is_refused(copy: Path, expected):
    found = refusal(copy, expected)

    assert found.code == "digest_mismatch"
    assert f"not {expected}" in found.reason


def test_pinned_digest_is_compared_before_the_manifest_is_read(copy: Path):
    (copy / "manifest.json").write_bytes(b"not a manifest")

    assert refusal(copy, "0" * 64).code == "digest_mismatch"


def test_manifest_rewritten_to_fit_other_files_has_another_digest(copy: Path, penguins: VerifiedBundle):
    (copy / "model.json").write_bytes(b"{}")
    files = tuple(bundle.part(part.name, (copy / part.name).read_bytes()) for part in penguins.manifest.files)
    _rewrite_manifest(files=files)(copy)

    assert refusal(copy).code == "structure_invalid"
    assert refusal(copy, penguins.digest).code == "digest_mismatch"


def _spoil_onnx(folder: Path, penguins: VerifiedBundle) -> None:
    """Put a file that is no model where nothing but its structure is wrong."""
    (folder / "model.onnx").write_bytes(b"no model")
    files = tuple(bundle.part(part.name, (folder / part.name).read_bytes()) for part in penguins.manifest.files)
    _rewrite_manifest(files=files)(folder)


def test_structure_of_what_is_not_loaded_is_seen_once_it_is(copy: Path, penguins: VerifiedBundle):
    _spoil_onnx(copy, penguins)

    found = verify.read(copy, only="tables")

    assert found.unseen == {"model.onnx"}
    assert predictor.load(found, "tables").engine.name == "tables"
    with pytest.raises(BundleError, match=r"model\.onnx") as caught:
        predictor.load(found, "onnx")
    assert caught.value.code == "structure_invalid"


@pytest.mark.parametrize("only", [None, "onnx"])
def test_structure_is_seen_before_anything_is_loaded(copy: Path, penguins: VerifiedBundle, only):
    _spoil_onnx(copy, penguins)

    with pytest.raises(BundleError, match=r"model\.onnx") as caught:
        verify.read(copy, only=only)
    assert caught.value.code == "structure_invalid"


def test_what_explains_is_seen_whatever_engine_serves(copy: Path, penguins: VerifiedBundle):
    (copy / "model.json").write_bytes(b"{}")
    files = tuple(bundle.part(part.name, (copy / part.name).read_bytes()) for part in penguins.manifest.files)
    _rewrite_manifest(files=files)(copy)

    with pytest.raises(BundleError, match=r"model\.json"):
        verify.read(copy, only="onnx")


def test_every_single_bit_counts(copy: Path, penguins: VerifiedBundle):
    random = np.random.default_rng(17)
    codes: dict[str, set[str]] = {}
    for number in range(200):
        name = ("manifest.json", "model.json", "model.onnx")[number % 3]
        sound = (copy / name).read_bytes()
        # the ends, then anywhere
        position = {0: 0, 1: len(sound) - 1}.get(number // 3, int(random.integers(len(sound))))
        damaged = bytearray(sound)
        damaged[position] ^= 1 << int(random.integers(8))
        (copy / name).write_bytes(damaged)
        codes.setdefault(name, set()).add(refusal(copy, penguins.digest).code)
        (copy / name).write_bytes(sound)

    assert {
        "manifest.json": {"digest_mismatch"},
        "model.json": {"hash_mismatch"},
        "model.onnx": {"hash_mismatch"},
    } == codes
    assert penguins == verify.read(copy, penguins.digest)


def test_no_descriptor_is_left_open(copy: Path):
    for damage in (lambda f: (f / "notes.txt").write_text(""), _replace_by(lambda p, t: p.mkdir())):
        damage(copy)
        before = len(os.listdir("/proc/self/fd"))
        refusal(copy)
        assert before == len(os.listdir("/proc/self/fd"))
        if (copy / "notes.txt").exists():
            (copy / "notes.txt").unlink()


@pytest.fixture
def remote(fake_storage: FakeStorage, signed: Signed) -> Iterator[Bucket]:
    """The signed bundle in a bucket."""
    for path in signed.folder.iterdir():
        fake_storage.put("models", f"p/{path.name}", path.read_bytes())
    with fake_storage.client() as client, no_thread_left(fake_storage):
        yield Bucket(parse("gs://models/p"), client)


def remote_code(bucket: Bucket, digest: str | None = None, keys=None, seconds: float = 30) -> str:
    with pytest.raises(BundleError) as caught:
        verify.read(Remote(bucket, Deadline(seconds)), digest, keys)
    return caught.value.code


def test_bucket_gives_what_the_folder_gives(remote: Bucket, signed: Signed):
    for keys in (None, signed.keys):
        found = verify.read(Remote(remote, Deadline(30)), signed.folder.name, keys)

        assert found == verify.read(signed.folder, signed.folder.name, keys)
        assert (found.raw_signature is None) == (keys is None)
        assert set(found.seconds) == {"fetch", "verify"}


def test_only_what_the_manifest_names_is_asked_for(remote: Bucket, fake_storage: FakeStorage):
    fake_storage.put("models", "p/notes.txt", b"")

    verify.read(Remote(remote, Deadline(30)))

    asked = [one.name for one in fake_storage.seen("media")]
    assert asked[0] == "p/manifest.json"
    assert sorted(asked[1:]) == ["p/model.json", "p/model.onnx"]


def test_signature_is_missing_or_cannot_be_read(remote: Bucket, fake_storage: FakeStorage, signed: Signed):
    fake_storage.faults.add(Fault("status", match="signature", status=403))
    assert remote_code(remote, None, signed.keys) == "store_forbidden"

    fake_storage.delete("models", "p/signature.json")
    assert remote_code(remote, None, signed.keys) == "signature_missing"


def test_unsigned_folder_is_refused_where_a_key_is_configured(copy: Path, signed: Signed):
    with pytest.raises(BundleError) as caught:
        verify.read(copy, None, signed.keys)

    assert caught.value.code == "signature_missing"


def test_signature_of_another_bundle_is_refused(signed: Signed, bundles: dict[str, Path], tmp_path):
    for path in (*bundles["iris"].iterdir(), signed.folder / "signature.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())

    with pytest.raises(BundleError) as caught:
        verify.read(tmp_path, None, signed.keys)

    assert caught.value.code == "signature_other_files"


def test_manifest_of_one_and_model_of_another_is_refused(
    remote: Bucket, fake_storage: FakeStorage, bundles: dict[str, Path], signed: Signed
):
    fake_storage.put("models", "p/model.onnx", (bundles["iris"] / "model.onnx").read_bytes())

    assert remote_code(remote, signed.folder.name, signed.keys) in ("endless_data", "size_mismatch")
    fake_storage.put("models", "p/manifest.json", (bundles["iris"] / "manifest.json").read_bytes())
    assert remote_code(remote, signed.folder.name, signed.keys) == "digest_mismatch"


REMOTE_FAULTS = {
    "manifest endless": (Fault("endless", match="manifest", times=None), "endless_data"),
    "model endless": (Fault("endless", match="model.onnx", times=None), "endless_data"),
    "signature endless": (Fault("endless", match="signature", times=None), "endless_data"),
    "manifest flipped": (Fault("flip", match="manifest", at=9, times=None), "digest_mismatch"),
    "model flipped": (Fault("flip", match="model.json", at=9, hash="sent", times=None), "hash_mismatch"),
    "model short": (Fault("replace", match="model.json", content=b"{}", times=None), "size_mismatch"),
    "signature flipped": (Fault("flip", match="signature", at=0, times=None), "signature_malformed"),
    "missing": (Fault("status", match="model.json", status=404), "object_missing"),
}


@pytest.mark.parametrize(("fault", "code"), REMOTE_FAULTS.values(), ids=REMOTE_FAULTS)
def test_bad_bucket_has_a_reason_code(remote: Bucket, fake_storage: FakeStorage, signed: Signed, fault, code):
    fake_storage.faults.add(fault)

    assert remote_code(remote, signed.folder.name, signed.keys) == code


@pytest.mark.parametrize("kind", ["stall", "drip"])
@pytest.mark.parametrize("name", ["manifest.json", "model.onnx"])
def test_slow_bucket_ends_with_the_deadline(remote: Bucket, fake_storage: FakeStorage, kind, name):
    fake_storage.faults.add(Fault(kind, match=name, at=500, times=None))

    assert remote_code(remote, seconds=0.8) == "fetch_timeout"


def test_damage_that_passes_is_no_damage(remote: Bucket, fake_storage: FakeStorage, signed: Signed):
    for name in ("manifest", "model.json", "model.onnx"):
        fake_storage.faults.add(Fault("flip", match=name, at=9), Fault("truncate", match=name, at=5, declared=5))

    assert verify.read(Remote(remote, Deadline(30)), signed.folder.name, signed.keys).raw_signature == signed.raw


def test_bundle_that_declares_too_much_is_refused_before_it_is_read(copy: Path, penguins: VerifiedBundle):
    files = tuple(replace(part, size_bytes=10 << 30) for part in penguins.manifest.files)
    _rewrite_manifest(files=files)(copy)

    assert refusal(copy).code == "declared_too_large"


def test_manifest_is_told_once_its_digest_is_right(copy: Path, penguins: VerifiedBundle):
    told: list[object] = []
    _flip(copy)

    with pytest.raises(BundleError, match="hash_mismatch"):
        verify.read(copy, penguins.digest, None, told.append)
    with pytest.raises(BundleError, match="digest_mismatch"):
        verify.read(copy, "0" * 64, None, told.append)
    with pytest.raises(BundleError, match="hash_mismatch"):
        verify.read(copy, None, None, told.append)

    assert told == [penguins.manifest]
