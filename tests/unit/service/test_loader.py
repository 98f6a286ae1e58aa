"""The pinned bundle becomes a proven predictor, or one of its stand-ins does, or there is a reason why not."""

from __future__ import annotations

import itertools
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from google.cloud import storage

from model import bundle, manifest, publish, sign, verify
from model.cache import Cache
from model.quarantine import CRASHES, Quarantine
from model.signing import load_keys
from model.store import Bucket, parse
from service import underway
from service.config import Settings
from service.loader import Loader, NotReady, Ready, State
from tests.fakes.gcs import FakeStorage, Fault
from tests.fakes.gcs import fake_storage as fake_storage

FILES = {"manifest.json", "model.json", "model.onnx"}
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC).timestamp()


def variant(root: Path, source: Path, **changes: Any) -> Path:
    """Write a bundle again with another manifest."""
    read = verify.read(source)
    return bundle.write(root, msgspec.structs.replace(read.manifest, **changes), read.files).folder


@pytest.fixture(scope="module")
def first(bundles: dict[str, Path]) -> Path:
    """A bundle, serial 1."""
    return bundles["penguins"]


@pytest.fixture(scope="module")
def second(first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another bundle of the same contract, serial 2."""
    return variant(tmp_path_factory.mktemp("second"), first, version="2", serial=2)


@pytest.fixture(scope="module")
def stranger(first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that names one class otherwise: another contract."""
    classes = verify.read(first).manifest.classes
    return variant(tmp_path_factory.mktemp("stranger"), first, classes=(*classes[:-1], "King"))


@pytest.fixture
def client(fake_storage: FakeStorage) -> Iterator[storage.Client]:
    """The real client of the fake store, which has a bucket."""
    fake_storage.create_bucket("models")
    with fake_storage.client() as client:
        yield client


Load = Callable[..., State]


@pytest.fixture
def load(private: Settings, client: storage.Client) -> Load:
    """Settings → what the loader makes of them; `at` is the wall clock."""

    def load(at: float = NOON, **settings: Any) -> State:
        chosen = replace(private, **settings)
        return Loader(chosen, lambda uri: Bucket(parse(uri), client), lambda: at).load()

    return load


@pytest.fixture
def upload(fake_storage: FakeStorage, client: storage.Client) -> Callable[[Path], dict[str, Any]]:
    """A bundle folder → the settings that pin it in the bucket; the log of the fake begins after it."""

    def upload(folder: Path) -> dict[str, Any]:
        address, digest = publish.upload(folder, parse("gs://models/penguins"), quiet=True, client=client)
        return {"model_uri": str(address), "model_digest": digest}

    return upload


def as_fallback(pinned: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that name a bundle as the operator's fallback."""
    return {"fallback_uri": pinned["model_uri"], "fallback_digest": pinned["model_digest"]}


def downloads(fake: FakeStorage, folder: Path, since: int) -> list[str]:
    """Return the file names of a bundle that were asked for, sorted."""
    names = [seen.name for seen in fake.requests[since:] if seen.method == "GET" and f"/{folder.name}/" in seen.name]
    return sorted(name.rpartition("/")[2] for name in names)


def damage(fake: FakeStorage, folder: Path, file: str) -> None:
    """Turn over one bit in the middle of an object."""
    name = f"penguins/{folder.name}/{file}"
    fake.put("models", name, flipped(fake.get("models", name)))


def flipped(raw: bytes) -> bytes:
    """Return bytes with one bit turned over."""
    changed = bytearray(raw)
    changed[len(raw) // 2] ^= 1
    return bytes(changed)


def flip(path: Path) -> None:
    """Turn over one bit in the middle of a file."""
    path.write_bytes(flipped(path.read_bytes()))


def tried(state: State) -> list[tuple[str, str | None]]:
    """Return origin and reason code of every attempt."""
    return [(attempt.origin, attempt.code) for attempt in state.attempts]


def ready(state: State) -> Ready:
    """Return a state that must be ready."""
    assert isinstance(state, Ready), state
    return state


def refused(state: State) -> NotReady:
    """Return a state that must not be ready."""
    assert isinstance(state, NotReady)
    return state


def digest_of(folder: Path) -> str:
    """Return the digest that a bundle's folder is named after."""
    return f"sha256:{folder.name}"


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the events of the loader."""
    return [record.message for record in caplog.records if record.name == "service.loader"]


# --- a bundle on disk


def test_a_good_bundle_is_ready_and_logged_with_its_phases(load, first, caplog):
    with caplog.at_level(logging.INFO):
        state = ready(load(model_uri=str(first)))
    assert (digest_of(first), "pinned", False) == (state.digest, state.origin, state.is_fallback)
    assert list(state.phases) == ["fetch", "verify", "load", "golden"]
    assert logged(caplog) == ["model.loaded"]
    record = vars(caplog.records[-1])
    assert ["penguins", "1", state.digest, "tables", "pinned"] == [
        record[name] for name in ("model", "version", "digest", "engine", "origin")
    ]
    assert {f"{name}_seconds" for name in state.phases} <= set(record)


def test_a_predictor_that_nobody_tried_counts_as_the_pinned_one(penguins_predictor):
    assert (Ready(penguins_predictor).origin, Ready(penguins_predictor).is_fallback) == ("pinned", False)


def test_the_engine_of_the_settings_serves_the_pinned_bundle(load, first):
    assert ready(load(model_uri=str(first), engine="xgboost")).predictor.engine.name == "xgboost"


@pytest.mark.parametrize("prefix", ["", "sha256:"])
def test_the_digest_of_the_settings_is_taken(load, first, prefix):
    assert isinstance(load(model_uri=str(first), model_digest=prefix + first.name), Ready)


DAMAGE = {
    "bundle_missing": lambda folder: shutil.rmtree(folder),
    "file_missing": lambda folder: (folder / "model.onnx").unlink(),
    "hash_mismatch": lambda folder: flip(folder / "model.onnx"),
    "size_mismatch": lambda folder: (folder / "model.json").write_bytes(b""),
    "extra_file": lambda folder: (folder / "model.pkl").write_bytes(b""),
    "not_a_regular_file": lambda folder: (folder / "model.json").unlink() or (folder / "model.json").mkdir(),
    "manifest_malformed": lambda folder: (folder / "manifest.json").write_bytes(b"{"),
}


@pytest.mark.parametrize(("code", "harm"), DAMAGE.items(), ids=DAMAGE.keys())
def test_a_damaged_bundle_is_not_ready_for_a_reason_that_is_logged(load, first, tmp_path, caplog, code, harm):
    copy = Path(shutil.copytree(first, tmp_path / first.name))
    harm(copy)
    state = refused(load(model_uri=str(copy)))
    assert (code, [("pinned", code)]) == (state.code, tried(state))
    assert [("model.refused", code, "pinned")] == [
        (r.message, vars(r)["code"], vars(r)["origin"]) for r in caplog.records
    ]


def test_another_digest_than_the_settings_name_is_refused(load, first):
    assert refused(load(model_uri=str(first), model_digest="sha256:" + "0" * 64)).code == "digest_mismatch"


def test_an_engine_without_a_file_is_refused(load, bundles):
    state = refused(load(model_uri=str(bundles["iris"]), engine="xgboost"))
    reason = "the bundle has no model.json, so the xgboost engine cannot serve it"
    assert ("engine_refused", reason) == (state.code, state.reason)


def test_whatever_else_happens_is_not_ready_and_the_log_has_the_cause(load, caplog):
    # a setting of the wrong type stands for a defect of our own
    state = refused(load(model_uri=None))
    assert (state.code, state.reason) == ("load_failed", "the bundle could not be loaded; the log has the cause")
    assert ("model.failed", True) in [(r.message, r.exc_info is not None) for r in caplog.records]


# --- what may serve at all


def test_a_serial_below_the_least_one_is_refused(load, first, second):
    assert refused(load(model_uri=str(first), min_serial=2)).code == "serial_too_low"
    assert isinstance(load(model_uri=str(second), min_serial=2), Ready)


def test_a_fallback_below_the_least_serial_is_refused(load, first):
    state = refused(load(model_uri="/nowhere", fallback_uri=str(first), min_serial=2))
    assert tried(state) == [("pinned", "bundle_missing"), ("fallback", "serial_too_low")]


@pytest.mark.parametrize(
    ("expires", "at", "is_served"),
    [
        ("2026-06-01T12:00:00Z", NOON - 1, True),
        ("2026-06-01T12:00:00Z", NOON, False),
        ("2026-06-01T12:00:00", NOON - 1, True),
        ("2026-06-01T12:00:00", NOON, False),
        ("2026-06-01T14:00:00+02:00", NOON - 1, True),
        ("2026-06-01T14:00:00+02:00", NOON, False),
        ("some day", 0.0, False),
    ],
)
def test_a_bundle_serves_until_it_expires(load, first, tmp_path, expires, at, is_served):
    state = load(at, model_uri=str(variant(tmp_path, first, expires=expires)))
    assert (None if is_served else "expired") == state.attempts[0].code


def test_an_expired_bundle_is_stood_in_for(load, first, second, tmp_path):
    old = variant(tmp_path, first, expires="2020-01-01T00:00:00Z")
    state = ready(load(model_uri=str(old), fallback_uri=str(second)))
    assert tried(state) == [("pinned", "expired"), ("fallback", None)]


# --- from the bucket


def test_a_pinned_bundle_comes_from_the_bucket_and_is_kept(load, upload, fake_storage, first, private, caplog):
    pinned = upload(first)
    since = len(fake_storage.requests)
    assert ready(load(**pinned)).digest == digest_of(first)
    assert sorted(FILES) == downloads(fake_storage, first, since)
    assert {file.name for file in (private.cache_dir / "bundles" / first.name).iterdir()} == FILES
    assert Cache(private.cache_dir).last_known_good == digest_of(first)
    assert logged(caplog) == []


def test_a_bundle_deleted_from_the_disk_is_named_with_the_reason(load, upload, first, second, tmp_path, caplog):
    third = variant(tmp_path, first, version="3", serial=3)
    load(**upload(first))
    load(**upload(second))
    with caplog.at_level(logging.INFO):
        load(**upload(third))

    [record] = [vars(one) for one in caplog.records if one.message == "model.pruned"]
    assert (record["digest"], record["reason"][:14]) == (digest_of(first), "neither in use")


def test_a_copy_on_disk_is_not_downloaded_again(load, upload, fake_storage, first):
    pinned = upload(first)
    load(**pinned)
    since = len(fake_storage.requests)
    assert ready(load(**pinned)).origin == "pinned"
    assert fake_storage.requests[since:] == ()


@pytest.mark.parametrize("file", sorted(FILES))
def test_a_damaged_copy_on_disk_is_downloaded_again(load, upload, fake_storage, first, private, caplog, file):
    pinned = upload(first)
    load(**pinned)
    copy = private.cache_dir / "bundles" / first.name
    flip(copy / file)
    since = len(fake_storage.requests)
    assert ready(load(**pinned)).origin == "pinned"
    assert sorted(FILES) == downloads(fake_storage, first, since)
    assert logged(caplog) == ["model.copy_refused"]
    assert verify.read(copy, digest_of(first)).digest == digest_of(first)


def test_the_bundle_in_the_image_is_used_without_a_download_if_it_is_the_pinned_one(
    load, upload, fake_storage, first, private
):
    pinned = upload(first)
    since = len(fake_storage.requests)
    state = ready(load(**pinned, baked_bundle=first))
    assert ("pinned", digest_of(first)) == (state.origin, state.digest)
    assert fake_storage.requests[since:] == ()
    assert not (private.cache_dir / "bundles").exists()


def test_another_bundle_in_the_image_is_passed_over_in_silence(load, upload, first, second, caplog):
    state = ready(load(**upload(second), baked_bundle=first))
    assert ("pinned", digest_of(second), []) == (state.origin, state.digest, logged(caplog))


def test_a_damaged_bundle_in_the_image_is_passed_over_with_a_warning(load, upload, first, tmp_path, caplog):
    baked = Path(shutil.copytree(first, tmp_path / "baked"))
    flip(baked / "model.onnx")
    state = ready(load(**upload(first), baked_bundle=baked))
    assert (state.origin, logged(caplog)) == ("pinned", ["model.copy_refused"])


def test_an_unwritable_cache_costs_a_warning_and_nothing_else(load, upload, first, tmp_path, caplog):
    (tmp_path / "file").write_bytes(b"")
    # below a file nobody can make a folder, root neither
    state = ready(load(**upload(first), cache_dir=tmp_path / "file/cache"))
    assert (state.origin, logged(caplog)) == ("pinned", ["model.not_kept"])


def test_a_bundle_that_cannot_be_remembered_is_served_with_a_warning(load, upload, first, private, caplog):
    (private.cache_dir / "last-known-good").mkdir(parents=True)
    state = ready(load(**upload(first)))
    assert (state.origin, logged(caplog)) == ("pinned", ["model.not_remembered"])


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_cache_of_somebody_else_is_refused(load, first, private, caplog):
    private.cache_dir.mkdir(parents=True)
    assert ready(load(model_uri=str(first))).origin == "pinned"
    caplog.clear()
    os.chown(private.cache_dir, 65534, 65534)
    assert refused(load(model_uri=str(first))).code == "cache_not_ours"
    assert logged(caplog) == ["model.refused"]


def test_a_missing_object_is_a_reason(load, upload, fake_storage, first):
    pinned = upload(first)
    fake_storage.delete("models", f"penguins/{first.name}/model.onnx")
    assert refused(load(**pinned)).code == "object_missing"


def test_a_slow_bucket_is_given_up_in_time_for_the_bundle_in_the_image(load, upload, fake_storage, first, second):
    pinned = upload(second)
    fake_storage.faults.add(Fault("stall", match="model.onnx", at=10, times=None))
    state = ready(load(**pinned, baked_bundle=first, load_seconds=1))
    assert tried(state) == [("pinned", "fetch_timeout"), ("baked_in", None)]


# --- signatures


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A private and a public key file."""
    return sign.make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def signed(first: Path, pair: tuple[Path, Path], tmp_path: Path) -> Path:
    """The first bundle with a signature."""
    copy = Path(shutil.copytree(first, tmp_path / first.name))
    sign.sign(copy, pair[0])
    return copy


def test_with_a_key_a_signed_bundle_is_served_without_a_pin(load, upload, fake_storage, signed, pair, private):
    pinned = upload(signed)
    # a name that tells no digest
    for file in signed.iterdir():
        fake_storage.put("models", f"latest/{file.name}", file.read_bytes())
    keys = load_keys(pair[1].read_bytes())
    state = ready(load(model_uri="gs://models/latest", public_keys=keys))
    assert (pinned["model_digest"], "pinned") == (state.digest, state.origin)
    assert not (private.cache_dir / "bundles").exists()


def test_with_a_key_the_digest_in_the_address_is_the_pin(load, upload, fake_storage, signed, pair):
    uri, keys = upload(signed)["model_uri"], load_keys(pair[1].read_bytes())
    assert ready(load(model_uri=uri, public_keys=keys)).digest == digest_of(signed)
    since = len(fake_storage.requests)
    assert ready(load(model_uri=uri, public_keys=keys)).origin == "pinned"
    assert fake_storage.requests[since:] == ()


def test_with_a_key_an_unsigned_bundle_is_refused(load, upload, first, pair):
    state = refused(load(**upload(first), public_keys=load_keys(pair[1].read_bytes())))
    assert state.code == "signature_missing"


def test_a_copy_kept_without_its_signature_is_downloaded_again_once_a_key_is_set(
    load, upload, fake_storage, signed, pair, caplog
):
    pinned = upload(signed)
    load(**pinned)
    since = len(fake_storage.requests)
    assert ready(load(**pinned, public_keys=load_keys(pair[1].read_bytes()))).origin == "pinned"
    assert sorted({*FILES, "signature.json"}) == downloads(fake_storage, signed, since)
    assert logged(caplog) == ["model.copy_refused"]


# --- the fallbacks, in their order


def test_the_last_known_good_one_serves_first(load, upload, fake_storage, first, second, tmp_path, caplog):
    load(**upload(first))
    pinned = upload(second)
    damage(fake_storage, second, "model.onnx")
    state = ready(load(**pinned, fallback_uri="/nowhere", baked_bundle=tmp_path / "baked"))
    assert tried(state) == [("pinned", "hash_mismatch"), ("last_known_good", None)]
    assert (digest_of(first), True) == (state.digest, state.is_fallback)
    assert logged(caplog) == ["model.refused", "model.fallback_in_use"]
    warning = caplog.records[-1]
    assert (warning.levelname, vars(warning)["origin"], vars(warning)["pinned_code"]) == (
        "WARNING",
        "last_known_good",
        "hash_mismatch",
    )


def test_on_an_empty_disk_the_operator_s_fallback_serves(load, upload, fake_storage, first, second):
    pinned, fallback = upload(second), as_fallback(upload(first))
    damage(fake_storage, second, "model.onnx")
    state = ready(load(**pinned, **fallback, baked_bundle=first.parent))
    assert tried(state) == [("pinned", "hash_mismatch"), ("fallback", None)]
    assert (fallback["fallback_uri"], digest_of(first)) == (state.attempts[-1].uri, state.attempts[-1].digest)


def test_a_damaged_last_known_good_one_is_passed_over(load, upload, fake_storage, first, second, private):
    load(**upload(first))
    flip(private.cache_dir / "bundles" / first.name / "model.onnx")
    pinned = upload(second)
    damage(fake_storage, second, "model.onnx")
    state = ready(load(**pinned, fallback_uri=str(first)))
    assert tried(state) == [("pinned", "hash_mismatch"), ("last_known_good", "hash_mismatch"), ("fallback", None)]


def test_the_bundle_in_the_image_is_the_last_resort(load, upload, fake_storage, first, second):
    pinned = upload(second)
    damage(fake_storage, second, "model.onnx")
    state = ready(load(**pinned, fallback_uri="/nowhere", baked_bundle=first))
    assert tried(state) == [("pinned", "hash_mismatch"), ("fallback", "bundle_missing"), ("baked_in", None)]


def test_a_bundle_in_the_image_that_is_the_pinned_address_is_tried_once(load, first, tmp_path):
    copy = Path(shutil.copytree(first, tmp_path / "bundle"))
    flip(copy / "model.onnx")
    assert tried(load(model_uri=str(copy), baked_bundle=copy)) == [("pinned", "hash_mismatch")]


def test_without_a_fallback_the_reason_is_the_pinned_bundle_s(load, upload, fake_storage, first, second):
    pinned, fallback = upload(second), as_fallback(upload(first))
    damage(fake_storage, second, "model.onnx")
    fake_storage.delete("models", f"penguins/{first.name}/manifest.json")
    state = refused(load(**pinned, **fallback))
    assert (
        state.code,
        tried(state),
    ) == ("hash_mismatch", [("pinned", "hash_mismatch"), ("fallback", "object_missing")])


def test_allow_fallback_false_turns_every_fallback_off(load, upload, fake_storage, first, second):
    load(**upload(first))
    pinned, fallback = upload(second), as_fallback(upload(first))
    damage(fake_storage, second, "model.onnx")
    state = load(**pinned, **fallback, baked_bundle=first, allow_fallback=False)
    assert tried(refused(state)) == [("pinned", "hash_mismatch")]


def test_the_engine_of_the_settings_does_not_bind_a_fallback(load, first):
    state = ready(load(model_uri="/nowhere", fallback_uri=str(first), engine="xgboost"))
    assert state.predictor.engine.name == "tables"


def test_a_fallback_does_not_become_the_last_known_good_pin_of_another_model(load, upload, first, stranger):
    load(**upload(stranger))
    state = ready(load(model_uri="/nowhere", model_contract=contract_of(first), fallback_uri=str(first)))
    assert tried(state) == [("pinned", "bundle_missing"), ("last_known_good", "other_contract"), ("fallback", None)]


# --- never another contract


def contract_of(folder: Path) -> str:
    """Return a bundle's contract."""
    return manifest.contract(verify.read(folder).manifest)


@pytest.mark.parametrize("setting", ["fallback_uri", "baked_bundle"])
def test_a_bundle_of_another_contract_never_stands_in(load, upload, fake_storage, first, stranger, setting):
    pinned = upload(first)
    damage(fake_storage, first, "model.onnx")
    state = refused(load(**pinned, **{setting: stranger if setting == "baked_bundle" else str(stranger)}))
    assert (state.code, state.attempts[-1].code) == ("hash_mismatch", "other_contract")


def test_the_last_known_good_one_of_another_contract_never_stands_in(load, upload, fake_storage, first, stranger):
    load(**upload(stranger))
    pinned = upload(first)
    damage(fake_storage, first, "model.onnx")
    assert tried(refused(load(**pinned))) == [("pinned", "hash_mismatch"), ("last_known_good", "other_contract")]


def test_a_pinned_bundle_of_another_contract_than_the_settings_name_is_refused(load, first, stranger):
    state = refused(load(model_uri=str(first), model_contract=contract_of(stranger)))
    assert state.code == "other_contract"


def test_with_an_unreadable_pinned_manifest_only_the_operator_s_fallback_serves(
    load, upload, fake_storage, first, second
):
    load(**upload(first))
    pinned, fallback = upload(second), as_fallback(upload(first))
    damage(fake_storage, second, "manifest.json")
    alone = refused(load(**pinned, baked_bundle=first))
    assert tried(alone) == [
        ("pinned", "digest_mismatch"),
        ("last_known_good", "contract_unknown"),
        ("baked_in", "contract_unknown"),
    ]
    state = ready(load(**pinned, **fallback))
    assert tried(state) == [("pinned", "digest_mismatch"), ("last_known_good", "contract_unknown"), ("fallback", None)]


def test_with_an_unreadable_pinned_manifest_the_contract_of_the_settings_decides(
    load, upload, fake_storage, first, second, stranger
):
    load(**upload(first))
    pinned = upload(second)
    damage(fake_storage, second, "manifest.json")
    good = ready(load(**pinned, model_contract=contract_of(first)))
    assert tried(good) == [("pinned", "digest_mismatch"), ("last_known_good", None)]
    bad = load(**pinned, model_contract=contract_of(stranger), fallback_uri=str(first))
    assert [code for _, code in tried(refused(bad))] == ["digest_mismatch", "other_contract", "other_contract"]


# --- quarantine


def crash(private: Settings, folder: Path, at: float = NOON, times: int = CRASHES) -> None:
    """Note crashes of a bundle, as Gunicorn's parent process does."""
    for _ in itertools.repeat(None, times):
        Quarantine(private.cache_dir, lambda: at).note_crash(folder.name)


def test_three_crashes_within_a_minute_set_a_bundle_aside(load, private, first, second):
    for at in (NOON, NOON + 30, NOON + 60):
        crash(private, second, at, 1)
    state = ready(load(NOON + 60, model_uri=str(second), fallback_uri=str(first)))
    assert tried(state) == [("pinned", "quarantined"), ("fallback", None)]


def test_the_last_known_good_one_stands_in_for_a_bundle_that_was_set_aside(load, upload, private, first, second):
    load(**upload(first))
    pinned = upload(second)
    load(**pinned)
    crash(private, second)
    state = ready(load(**pinned))
    assert tried(state) == [("pinned", "quarantined"), ("last_known_good", None)]
    assert state.digest == digest_of(first)


def test_a_bundle_that_was_set_aside_stands_in_for_nobody(load, private, first, second):
    crash(private, first)
    state = refused(load(model_uri="/nowhere", fallback_uri=str(first), baked_bundle=first))
    assert [code for _, code in tried(state)] == ["bundle_missing", "quarantined", "quarantined"]


@pytest.mark.parametrize("moments", [[NOON, NOON + 1], [NOON, NOON + 31, NOON + 62]], ids=["two", "three in 62 s"])
def test_fewer_crashes_within_a_minute_set_nothing_aside(load, private, first, moments):
    for at in moments:
        crash(private, first, at, 1)
    assert ready(load(moments[-1], model_uri=str(first))).origin == "pinned"


def test_a_quarantine_ends_when_nothing_stands_in(load, private, first, caplog):
    crash(private, first)
    early = refused(load(NOON + 299, model_uri=str(first)))
    assert (early.code, early.retry_seconds) == ("quarantined", 1)
    assert refused(load(NOON + 100, model_uri=str(first))).retry_seconds == 200

    assert ready(load(NOON + 300, model_uri=str(first))).origin == "pinned"
    assert logged(caplog).count("model.quarantine_ended") == 1
    # what crashed before is forgotten
    crash(private, first, NOON + 301, 2)
    assert ready(load(NOON + 301, model_uri=str(first))).origin == "pinned"


def test_a_quarantine_does_not_end_while_something_stands_in(load, private, first, second):
    crash(private, second)
    state = ready(load(NOON + 86_400, model_uri=str(second), fallback_uri=str(first)))
    assert tried(state) == [("pinned", "quarantined"), ("fallback", None)]


def test_a_stand_in_in_quarantine_is_tried_again_too(load, private, first):
    crash(private, first)
    early = refused(load(NOON + 1, model_uri="/nowhere", fallback_uri=str(first)))
    # the pinned one may come at any time
    assert (early.code, early.retry_seconds) == ("bundle_missing", 15)
    assert ready(load(NOON + 300, model_uri="/nowhere", fallback_uri=str(first))).origin == "fallback"


def test_what_is_loaded_and_whether_is_known_to_the_parent(load, first):
    found = underway.share()
    load(model_uri=str(first))
    assert (found.digest, found.blamed) == (first.name, None)
    underway.begin("computed")
    assert found.blamed == first.name
    underway.share()
