"""A bundle becomes a proven predictor, or a reason code; nothing is raised."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from service import loader
from service.config import Settings
from service.loader import NotReady, Ready

SETTINGS = Settings()


@pytest.fixture
def copy(bundles: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the penguins bundle that may be damaged."""
    return Path(shutil.copytree(bundles["penguins"], tmp_path / bundles["penguins"].name))


def test_a_good_bundle_is_ready_and_logged(bundles, caplog):
    with caplog.at_level(logging.INFO):
        state = loader.load(replace(SETTINGS, model_uri=bundles["penguins"]))
    assert isinstance(state, Ready)
    assert f"sha256:{bundles['penguins'].name}" == state.digest
    assert [record.message for record in caplog.records] == ["model.loaded"]
    record = caplog.records[0]
    assert ("penguins", "1", state.digest, "onnx") == tuple(
        vars(record)[name] for name in ("model", "version", "digest", "engine")
    )


def test_the_engine_of_the_settings_serves(bundles):
    state = loader.load(replace(SETTINGS, model_uri=bundles["penguins"], engine="xgboost"))
    assert isinstance(state, Ready)
    assert state.predictor.engine.name == "xgboost"


@pytest.mark.parametrize("prefix", ["", "sha256:"])
def test_the_digest_of_the_settings_is_taken(bundles, prefix):
    digest = prefix + bundles["penguins"].name
    assert isinstance(loader.load(replace(SETTINGS, model_uri=bundles["penguins"], model_digest=digest)), Ready)


def _flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


DAMAGE = {
    "bundle_missing": lambda folder: shutil.rmtree(folder),
    "file_missing": lambda folder: (folder / "model.onnx").unlink(),
    "hash_mismatch": lambda folder: _flip(folder / "model.onnx"),
    "size_mismatch": lambda folder: (folder / "model.json").write_bytes(b""),
    "extra_file": lambda folder: (folder / "model.pkl").write_bytes(b""),
    "not_a_regular_file": lambda folder: (folder / "model.json").unlink() or (folder / "model.json").mkdir(),
    "manifest_malformed": lambda folder: (folder / "manifest.json").write_bytes(b"{"),
}


@pytest.mark.parametrize(("code", "damage"), DAMAGE.items(), ids=DAMAGE.keys())
def test_a_damaged_bundle_is_not_ready_for_a_reason_that_is_logged(copy, caplog, code, damage):
    damage(copy)
    state = loader.load(replace(SETTINGS, model_uri=copy))
    assert isinstance(state, NotReady)
    assert code == state.code
    assert [("model.refused", code)] == [(r.message, vars(r)["code"]) for r in caplog.records]


def test_another_digest_than_the_settings_name_is_refused(bundles):
    state = loader.load(replace(SETTINGS, model_uri=bundles["penguins"], model_digest="sha256:" + "0" * 64))
    assert isinstance(state, NotReady)
    assert state.code == "digest_mismatch"


def test_an_engine_without_a_file_is_refused(bundles):
    state = loader.load(replace(SETTINGS, model_uri=bundles["iris"], engine="xgboost"))
    assert NotReady("engine_refused", "the bundle has no model.json, so the xgboost engine cannot serve it") == state


def test_whatever_else_happens_is_not_ready_and_the_log_has_the_cause(caplog):
    # a setting of the wrong type stands for a defect of our own
    state = loader.load(replace(SETTINGS, model_uri=None))  # type: ignore[arg-type]
    assert NotReady("load_failed", "the bundle could not be loaded; the log has the cause") == state
    assert [(r.message, r.exc_info is not None) for r in caplog.records] == [("model.failed", True)]
