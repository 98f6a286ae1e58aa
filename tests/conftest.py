"""Real small bundles, trained once per session from the repository's own specs with fewer folds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from model import dataset, predictor, spec, train, verify
from model.dataset import Dataset
from model.predictor import Predictor
from model.verify import VerifiedBundle

ROOT = Path(__file__).resolve().parent.parent
Tell = Callable[[str], None]

NO_BAR = {"accuracy_min": 0.0, "calibration_error_max": 1.0}


def quick_spec(name: str, folder: Path) -> Path:
    """Copy a shipped spec with 5 folds and one repeat, its data path made absolute."""
    text = (ROOT / f"model/specs/{name}.toml").read_text()
    text = text.replace("folds = 10", "folds = 5").replace("repeats = 5", "repeats = 1")
    text = text.replace("../data/", f"{ROOT}/model/data/")
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of freshly trained bundles by name: penguins and iris."""
    root = tmp_path_factory.mktemp("bundles")
    written = {}
    for name in ("penguins", "iris"):
        loaded = spec.load(quick_spec(name, root))
        written[name] = train.train(loaded, dataset.load(loaded), NO_BAR, root, quiet=True).folder
    return written


@pytest.fixture(scope="session")
def penguins(bundles: dict[str, Path]) -> VerifiedBundle:
    """The penguins bundle, verified."""
    return verify.read(bundles["penguins"])


@pytest.fixture(scope="session")
def iris(bundles: dict[str, Path]) -> VerifiedBundle:
    """The iris bundle, verified."""
    return verify.read(bundles["iris"])


@pytest.fixture(scope="session")
def penguins_predictor(penguins: VerifiedBundle) -> Predictor:
    """The penguins bundle served by its default engine, ONNX Runtime."""
    return predictor.load(penguins)


@pytest.fixture(scope="session")
def penguins_data() -> Dataset:
    """The 342 complete penguins."""
    return dataset.load(spec.load(ROOT / "model/specs/penguins.toml"))


@pytest.fixture(scope="session")
def iris_data() -> Dataset:
    """The 150 irises."""
    return dataset.load(spec.load(ROOT / "model/specs/iris.toml"))


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Tell:
    """Print a number that a promise asks for, also when the test passes."""

    def tell(text: str) -> None:
        with capsys.disabled():
            print(f"\n  {text}")

    return tell
