"""A small made-up data set in every shape a spec can ask for: numbers, whole numbers, categories, nulls."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from model import dataset, learners, spec
from model.dataset import Dataset
from model.domain import Feature
from model.learners import Model
from model.spec import LoadedSpec

XGBOOST = 'name = "xgboost"\nrounds = 4\n[algorithm.params]\nmax_depth = 2\nlearning_rate = 0.5'
LOGISTIC = 'name = "logistic_regression"\n[algorithm.params]\nsolver = "newton-cholesky"\nC = 0.01'
SCALED = 'name = "logistic_regression"\nscaler = true'
FOREST = 'name = "random_forest"\nrounds = 4\n[algorithm.params]\nmax_depth = 3'
BOOSTING = 'name = "gradient_boosting"\nrounds = 4\n[algorithm.params]\nmax_depth = 2'

FEATURES = {
    "size_mm": 'unit = "mm"\nhard = [0, 500]\nplausible = [10, 90]\nconfused_with = ["cm", "in"]',
    "weight_g": 'unit = "g"\nhard = [0, 10000]\nplausible = [100, 900]',
    "legs": 'dtype = "int"\nhard = [0, 100]\nplausible = [0, 20]',
    "colour": 'dtype = "category"\nvalues = ["red", "green", "blue"]',
    "shape": 'dtype = "category"\nvalues = ["round", "long"]',
}
NUMBERS = ("size_mm", "weight_g", "legs")
MIXED = ("size_mm", "colour", "legs", "shape")
CATEGORIES = ("colour", "shape")


def write(
    folder: Path,
    algorithm: str = XGBOOST,
    names: tuple[str, ...] = NUMBERS,
    classes: int = 3,
    rows: int = 150,
    nullable: bool = False,
    extra: int = 0,
    head: str = "",
    positive: str | None = None,
) -> Path:
    """Write `toy.toml` and `toy.csv` into a folder.

    `extra` adds so many plain numbers, `head` top-level keys, `positive` names that class.
    """
    random = np.random.default_rng(11)
    kinds = np.arange(rows) % classes
    columns: dict[str, list[str]] = {
        "size_mm": [f"{v:.1f}" for v in np.clip(random.normal(30 + 15 * kinds, 6), 11, 89)],
        "weight_g": [f"{v:.0f}" for v in np.clip(random.normal(300 + 90 * kinds, 60), 101, 899)],
        "legs": [str(v) for v in np.clip(random.poisson(2 + 2 * kinds), 0, 20)],
        "colour": [
            ("red", "green", "blue")[(k + s) % 3] for k, s in zip(kinds, random.random(rows) < 0.3, strict=True)
        ],
        "shape": [("round", "long")[int(v)] for v in random.random(rows) < 0.3 + 0.2 * kinds],
    }
    tables = {name: FEATURES[name] for name in names}
    for index in range(extra):
        columns[f"x{index}"] = [f"{v:.3f}" for v in random.normal(kinds * (index % 2), 1)]
        tables[f"x{index}"] = "hard = [-100, 100]\nplausible = [-20, 20]"
    if nullable:
        for name in tables:
            columns[name] = [
                "" if lost else cell for cell, lost in zip(columns[name], random.random(rows) < 0.1, strict=True)
            ]
    columns["kind"] = [f"kind {'abcdef'[k]}" for k in kinds]
    lines = [",".join(columns), *(",".join(cells) for cells in zip(*columns.values(), strict=True))]
    (folder / "toy.csv").write_text("\n".join(lines) + "\n")
    null = "\nnullable = true" if nullable else ""
    features = "\n".join(
        f'[[features]]\nname = "{name}"\ndescription = "What {name} says"\n{table}{null}\n'
        for name, table in tables.items()
    )
    label = '"kind"' if positive is None else f'{{name = "kind", positive = "{positive}"}}'
    path = folder / "toy.toml"
    path.write_text(
        f'name = "toy"\nversion = "1"\nserial = 1\ntitle = "Toys"\nlabel = {label}\nseed = 7\nintended_use = "Tests."\n'
        f'limits = ["None."]\n{head}\n[data]\npath = "toy.csv"\nsource = "made up"\nlicence = "CC0-1.0"\n\n'
        f"[split]\nfolds = 3\nrepeats = 1\n\n[algorithm]\n{algorithm}\n\n{features}"
    )
    return path


def fit(path: Path) -> tuple[LoadedSpec, Dataset, Model]:
    """Read a toy spec and its data, and fit its algorithm on all rows."""
    loaded = spec.load(path)
    data = dataset.load(loaded)
    return loaded, data, learners.learner(loaded, data.features, data.classes)(data.matrix, data.labels)


def number(name: str = "size_mm", **changes: object) -> Feature:
    """Return a numeric feature as a manifest describes it."""
    return Feature(
        **{
            "name": name,
            "description": "",
            "dtype": "float",
            "unit": "mm",
            "hard": (0.0, 500.0),
            "plausible": (10.0, 90.0),
            **changes,
        }
    )


def category(*values: str, name: str = "colour", nullable: bool = False) -> Feature:
    """Return a category as a manifest describes it."""
    return Feature(name=name, description="", dtype="category", values=values, nullable=nullable)
