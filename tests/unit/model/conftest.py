"""Toy models, fitted once per session, and ways to break a bundle."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from model import dataset, predictor, spec, train, verify
from model.manifest import Manifest
from model.predictor import Predictor
from model.verify import VerifiedBundle
from tests.conftest import NO_BAR
from tests.unit.model import toy


@pytest.fixture(scope="session")
def toy_bundle(tmp_path_factory: pytest.TempPathFactory) -> VerifiedBundle:
    """XGBoost on categories, whole numbers and nulls: three classes."""
    root = tmp_path_factory.mktemp("toy")
    loaded = spec.load(toy.write(root, names=toy.MIXED, nullable=True))
    return verify.read(train.train(loaded, dataset.load(loaded), NO_BAR, root, quiet=True).folder)


@pytest.fixture(scope="session")
def iris_predictor(iris: VerifiedBundle) -> Predictor:
    """The iris bundle served by ONNX Runtime in double precision."""
    return predictor.load(iris)


@pytest.fixture
def copy(bundles: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the penguins bundle that a test may damage."""
    return Path(shutil.copytree(bundles["penguins"], tmp_path / "copy"))


@pytest.fixture(scope="session")
def manifest(penguins: VerifiedBundle) -> Manifest:
    """The penguins' manifest."""
    return penguins.manifest
