"""A bundle is published whole, under its digest, read back, and never over another one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from model import bundle, publish, verify
from model import manifest as manifests
from model.errors import BundleError
from model.manifest import Manifest
from model.store import parse
from model.verify import VerifiedBundle
from tests.fakes.gcs import FakeStorage, Fault
from tests.fakes.gcs import fake_storage as fake_storage
from tests.unit.model.conftest import Signed, no_thread_left

HOME = "gs://models/penguins"


@pytest.fixture
def store(fake_storage: FakeStorage, monkeypatch: pytest.MonkeyPatch) -> FakeStorage:
    """A fake with a bucket, where the commands go as well."""
    fake_storage.create_bucket("models")
    for name, value in fake_storage.environment().items():
        monkeypatch.setenv(name, value)
    return fake_storage


@pytest.fixture
def client(store: FakeStorage) -> Iterator[object]:
    with store.client() as made, no_thread_left(store):
        yield made


@pytest.fixture
def published(store: FakeStorage, signed: Signed, capsys) -> str:
    """The address of the signed bundle in the bucket."""
    assert publish.main(["upload", str(signed.folder), HOME]) == 0
    capsys.readouterr()
    return f"{HOME}/{signed.folder.name}/"


def refusal(folder: Path, client: object) -> BundleError:
    with pytest.raises(BundleError) as caught:
        publish.upload(folder, parse(HOME), quiet=True, client=client)
    return caught.value


def test_bundle_is_uploaded_under_its_digest(store: FakeStorage, client, signed: Signed):
    address, digest = publish.upload(signed.folder, parse(HOME), quiet=True, client=client)

    home = f"penguins/{signed.folder.name}"
    assert str(address) == f"gs://models/{home}/"
    assert digest == f"sha256:{signed.folder.name}"
    names = ("manifest.json", "model.json", "model.onnx", "signature.json")
    assert store.names("models") == [f"{home}/{name}" for name in names]
    assert all(store.get("models", f"{home}/{name}") == (signed.folder / name).read_bytes() for name in names)


def test_manifest_goes_last_and_everything_is_read_back(store: FakeStorage, client, bundles: dict[str, Path]):
    publish.upload(bundles["penguins"], parse(HOME), quiet=False, client=client)

    done = [(one.op, one.name.rpartition("/")[2]) for one in store.requests if one.op in ("insert", "media")]
    assert sorted(done[:2]) == [("insert", "model.json"), ("insert", "model.onnx")]
    assert done[2] == ("insert", "manifest.json")
    assert done[3] == ("media", "manifest.json")
    assert sorted(done[4:]) == [("media", "model.json"), ("media", "model.onnx")]


def test_uploading_again_changes_nothing(store: FakeStorage, client, bundles: dict[str, Path]):
    first = publish.upload(bundles["penguins"], parse(HOME), quiet=True, client=client)
    before = {name: store.generation("models", name) for name in store.names("models")}

    assert publish.upload(bundles["penguins"], parse(HOME), quiet=True, client=client) == first
    assert {name: store.generation("models", name) for name in store.names("models")} == before


def test_other_object_of_the_name_stops_it_before_the_manifest(store: FakeStorage, client, bundles: dict[str, Path]):
    name = f"penguins/{bundles['penguins'].name}/model.json"
    store.put("models", name, b"other")

    assert refusal(bundles["penguins"], client).code == "object_differs"
    assert store.get("models", name) == b"other"
    assert not any("manifest" in name for name in store.names("models"))


def test_bundle_that_does_not_verify_is_not_uploaded(store: FakeStorage, client, copy: Path):
    (copy / "model.onnx").write_bytes(b"")

    assert refusal(copy, client).code == "size_mismatch"
    assert store.requests == ()


def test_reading_back_finds_what_the_bucket_changed(store: FakeStorage, client, bundles: dict[str, Path]):
    store.faults.add(Fault("flip", match="model.onnx", at=9, times=None))

    assert refusal(bundles["penguins"], client).code == "hash_mismatch"


def test_listing_is_in_order_and_shows_what_cannot_be_read(
    store: FakeStorage, client, penguins: VerifiedBundle, tmp_path
):
    for serial in (3, 2):
        written = bundle.write(tmp_path, replace(penguins.manifest, serial=serial), penguins.files)
        publish.upload(written.folder, parse(HOME), quiet=True, client=client)
    store.put("models", f"penguins/{'0' * 64}/manifest.json", b"{}")
    store.put("models", f"penguins/{'1' * 64}/model.json", b"{}")
    store.put("models", "penguins/notes/manifest.json", b"{}")

    found = publish.listing(parse(HOME), client)

    assert {name for name, _ in found[:2]} == {"0" * 64, "1" * 64}
    assert {it.code for _, it in found[:2] if isinstance(it, BundleError)} == {"digest_mismatch", "object_missing"}
    assert [it.serial for _, it in found[2:] if isinstance(it, Manifest)] == [2, 3]


def test_upload_prints_what_to_pin(
    store: FakeStorage, bundles: dict[str, Path], penguins: VerifiedBundle, tmp_path, capsys
):
    digest = bundles["penguins"].name
    shutil.copytree(bundles["penguins"], tmp_path / digest)
    (tmp_path / "current").write_text(digest)

    assert publish.main(["upload", str(tmp_path), HOME]) == 0

    found = capsys.readouterr()
    assert found.out.splitlines() == [
        f"MODEL_URI={HOME}/{digest}/",
        f"MODEL_DIGEST=sha256:{digest}",
        f"ROOKERY_MODEL_CONTRACT={manifests.contract(penguins.manifest)}",
    ]
    assert found.err == ""
    assert publish.main(["upload", str(tmp_path), HOME, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == dict(line.split("=") for line in found.out.splitlines())


def test_ls_prints_a_line_per_bundle(published, store: FakeStorage, penguins: VerifiedBundle, capsys):
    store.put("models", f"penguins/{'0' * 64}/manifest.json", b"{}")

    assert publish.main(["ls", HOME]) == 0

    head, bad, good = capsys.readouterr().out.splitlines()
    model = penguins.manifest.quality.model
    assert head.split() == ["digest", "name", "version", "serial", "created", "accuracy", "log", "loss"]
    assert bad.startswith("000000000000    digest_mismatch: ")
    assert good.split() == [
        *(bundle.bare(penguins.digest)[:12], "penguins", penguins.manifest.version, str(penguins.manifest.serial)),
        *(penguins.manifest.created, f"{model.accuracy.value:.4f}", f"{model.log_loss.value:.4f}"),
    ]


def test_ls_for_machines_is_one_object_a_line(published, store: FakeStorage, penguins: VerifiedBundle, capsys):
    store.put("models", f"penguins/{'0' * 64}/manifest.json", b"{}")

    assert publish.main(["ls", HOME, "--json"]) == 0

    bad, good = map(json.loads, capsys.readouterr().out.splitlines())
    manifest = penguins.manifest
    assert bad == {"digest": "sha256:" + "0" * 64, "error": "digest_mismatch"}
    assert good == {
        "digest": penguins.digest,
        "name": "penguins",
        "version": manifest.version,
        "serial": manifest.serial,
        "created": manifest.created,
        "accuracy": manifest.quality.model.accuracy.value,
        "log_loss": manifest.quality.model.log_loss.value,
    }


def test_ls_of_nothing_prints_nothing(store: FakeStorage, capsys):
    assert publish.main(["ls", HOME]) == 0
    assert capsys.readouterr() == ("", "")


def test_show_prints_the_manifest_without_its_golden_rows(published, penguins: VerifiedBundle, capsys):
    assert publish.main(["show", published]) == 0

    found = json.loads(capsys.readouterr().out)
    golden = penguins.manifest.golden
    assert found.pop("golden") == {"count": len(golden.rows), "leaf_share": golden.leaf_share}
    whole = json.loads(penguins.raw_manifest)
    del whole["golden"]
    assert found == whole


def test_verify_proves_the_bundle(published, signed: Signed, penguins: VerifiedBundle, capsys):
    start = f"{penguins.digest} penguins {penguins.manifest.version}: good, "
    rows = f"{len(penguins.manifest.golden.rows)} golden rows equal\n"

    assert publish.main(["verify", published]) == 0
    assert capsys.readouterr().out == f"{start}signature not asked for, {rows}"
    assert publish.main(["verify", published, "--key", str(signed.public)]) == 0
    assert capsys.readouterr().out == f"{start}signed, {rows}"
    assert publish.main(["verify", published, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "digest": penguins.digest,
        "name": "penguins",
        "version": penguins.manifest.version,
        "is_signed": False,
        "golden_rows": len(penguins.manifest.golden.rows),
    }


def test_verify_refuses_an_unsigned_bundle(
    store: FakeStorage, client, bundles: dict[str, Path], signed: Signed, capsys
):
    address, _ = publish.upload(bundles["penguins"], parse(HOME), quiet=True, client=client)

    assert publish.main(["verify", str(address), "--key", str(signed.public)]) == 1
    assert capsys.readouterr().err.startswith("error: signature_missing: ")


FAILURES = {
    "no address": (["ls", "/models"], 1, "error: store_address: '/models' is not an address"),
    "no bucket": (["ls", "gs://nobody"], 1, "error: object_missing: gs://nobody/"),
    "no bundle to show": (["show", f"{HOME}/{'0' * 64}"], 1, "error: object_missing: gs://models/penguins/000"),
    "no bundle to verify": (["verify", f"{HOME}/{'0' * 64}"], 1, "error: object_missing: gs://models/penguins/000"),
    "no bundle to upload": (["upload", "/nowhere", HOME], 1, "error: bundle_missing: /nowhere is not a folder"),
    "no key file": (["verify", HOME, "--key", "/none.pem"], 2, "error: /none.pem cannot be read: No such file"),
    "no key in it": (["verify", HOME, "--key", "/dev/null"], 2, "error: /dev/null holds no PEM public key"),
}


@pytest.mark.parametrize(("arguments", "status", "start"), FAILURES.values(), ids=FAILURES)
def test_failure_is_one_line_and_a_status(store: FakeStorage, capsys, arguments, status, start):
    assert publish.main(arguments) == status

    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.startswith(start)
    assert found.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["upload"], ["ls"], ["burn", HOME]], ids=" ".join)
def test_wrong_usage_is_status_two(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        publish.main(arguments)

    assert caught.value.code == 2
    assert "(python -m model.publish" in capsys.readouterr().err


def test_signature_goes_along_unread(store: FakeStorage, client, copy: Path):
    (copy / "signature.json").write_bytes(b"of another key")

    address, digest = publish.upload(copy, parse(HOME), quiet=True, client=client)

    assert store.get("models", f"{address.prefix}/signature.json") == b"of another key"
    assert verify.read(copy).digest == digest
