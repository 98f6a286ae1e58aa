"""A synthetic bundle with every kind of feature, and answerers over all bundles."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from model import dataset, predictor, spec, train, verify
from model.predictor import Predictor
from model.verify import VerifiedBundle
from service.answer import Answerer
from service.app import create_app
from service.config import Settings
from service.loader import NotReady, Ready
from tests.conftest import NO_BAR

SOILS = ("clay", "sand [wet]", "loam: old", 'the "rich", {dark} one')

PLOTS_SPEC = """
name = "plots"
version = "7"
serial = 3
title = "Kind of a plot"
label = "kind"
seed = 5
intended_use = "Tests."
limits = ["Not real."]

[data]
path = "plots.csv"
source = "generated"
licence = "CC0-1.0"

[split]
folds = 2
repeats = 1

[algorithm]
name = "xgboost"
rounds = 8

[algorithm.params]
max_depth = 2

[[features]]
name = "depth_m"
description = "Depth of the water"
unit = "m"
hard = [-50, 10000]
plausible = [0, 30]
confused_with = ["ft", "cm"]

[[features]]
name = "count"
description = "Number of plants"
dtype = "int"
hard = [-9007199254740992, 9007199254740992]
plausible = [-9007199254740992, 9007199254740992]

[[features]]
name = "ph"
description = "Acidity"
hard = [0, 14]
plausible = [3, 10]
nullable = true

[[features]]
name = "soil"
description = "Kind of soil"
dtype = "category"
values = ['clay', 'sand [wet]', 'loam: old', 'the "rich", {dark} one']
"""


def _plots_csv() -> str:
    """Return 240 rows in which depth, count and soil tell the kind."""
    seeded = random.Random(11)
    lines = ["depth_m,count,ph,soil,kind"]
    for index in range(240):
        kind = index % 2
        depth = round(seeded.uniform(1, 8) + 6 * kind, 2)
        ph = "" if seeded.random() < 0.2 else round(seeded.uniform(5, 8), 1)
        soil = seeded.choice(SOILS[2 * kind : 2 * kind + 2]).replace('"', '""')
        lines.append(f'{depth},{seeded.randint(0, 40)},{ph},"{soil}",{"wet" if kind else "dry"}')
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="session")
def plots_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle with a number, a whole number, a nullable number and a category."""
    root = tmp_path_factory.mktemp("plots")
    (root / "plots.toml").write_text(PLOTS_SPEC)
    (root / "plots.csv").write_text(_plots_csv())
    loaded = spec.load(root / "plots.toml")
    return train.train(loaded, dataset.load(loaded), NO_BAR, root, quiet=True).folder


@pytest.fixture(scope="session")
def plots(plots_folder: Path) -> VerifiedBundle:
    """The synthetic bundle, verified."""
    return verify.read(plots_folder)


@pytest.fixture(scope="session")
def answerers(penguins_predictor: Predictor, iris: VerifiedBundle, plots: VerifiedBundle) -> dict[str, Answerer]:
    """Answerers with default settings by model: penguins, iris and plots."""
    predictors = {"penguins": penguins_predictor, "iris": predictor.load(iris), "plots": predictor.load(plots)}
    return {name: Answerer(Ready(loaded), Settings()) for name, loaded in predictors.items()}


@pytest.fixture
def answerer(answerers: dict[str, Answerer]) -> Answerer:
    """Penguins with default settings."""
    return answerers["penguins"]


@pytest.fixture(scope="session")
def penguins_app(answerers: dict[str, Answerer]) -> Flask:
    """The whole application with penguins and default settings."""
    return create_app(Settings(), answerers["penguins"])


@pytest.fixture(scope="session")
def unready_app() -> Flask:
    """The application after its bundle was refused."""
    return create_app(Settings(), Answerer(NotReady("hash_mismatch", "model.onnx is another"), Settings()))


@pytest.fixture
def private(tmp_path: Path) -> Settings:
    """Settings with a cache folder of their own and nothing baked in; give them a bundle."""
    return Settings(cache_dir=tmp_path / "cache", baked_bundle=tmp_path / "no-bundle")


@pytest.fixture
def private_environment(private: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The same in the environment."""
    monkeypatch.setenv("MODEL_CACHE_DIR", str(private.cache_dir))
    monkeypatch.setenv("ROOKERY_BAKED_BUNDLE", str(private.baked_bundle))
    return private


@pytest.fixture
def root_logging() -> Iterator[None]:
    """Put the root logger's handlers and level back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
