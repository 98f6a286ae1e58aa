"""Files as training would write them, and what the structure check says of a file."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from model import compiling, inspect
from model.errors import BundleError
from model.manifest import Manifest
from tests.soak.damage import PRUNED
from tests.unit.model import toy

XGBOOSTS = {
    "xgboost": toy.XGBOOST,
    "pruned": PRUNED,
    "parallel": toy.XGBOOST + "\nnum_parallel_tree = 3",
    "leaf by leaf": toy.XGBOOST + '\ngrow_policy = "lossguide"\nmax_leaves = 5',
    "one leaf": toy.XGBOOST + "\ngamma = 1000.0",
    "weighted": toy.XGBOOST.replace("rounds", 'class_weight = "balanced"\nrounds') + "\nmax_delta_step = 0.5",
}
ESTIMATORS = {"logistic": toy.LOGISTIC, "scaled": toy.SCALED, "forest": toy.FOREST, "boosting": toy.BOOSTING}
SHAPES = {"numbers": toy.NUMBERS, "mixed": toy.MIXED, "categories": toy.CATEGORIES, "one": ("colour",)}


def made(
    text: str, names: tuple[str, ...], classes: int, temperature: float | None, folder: Path, nullable: bool = False
):
    """Return the files that training would write, and what of the manifest the check reads."""
    _, data, model = toy.fit(toy.write(folder, text, names, classes, nullable=nullable))
    if temperature is not None:
        model = model.scaled(temperature)
    files = {"model.onnx": compiling.compile_model(model, data.features, "toy")[0]}
    if hasattr(model, "payload"):
        files["model.json"] = model.payload()
    return files, SimpleNamespace(features=data.features, classes=data.classes)


def refusal(payload: bytes, name: str, manifest: Manifest) -> str:
    """Return why a file is refused; it must be."""
    with pytest.raises(BundleError) as caught:
        inspect.check({name: payload}, manifest)
    assert caught.value.code == "structure_invalid"
    assert caught.value.reason.startswith(f"{name}: ")
    return caught.value.reason
