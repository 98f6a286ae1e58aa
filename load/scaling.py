"""Bundles of growing size, made from synthetic rows by the ordinary training; kept in bundles/bench."""

from __future__ import annotations

import csv
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from load import bundles, processes
from load.bundles import SEED, Bundle
from load.servers import ROOT, LoadError

FOLDER = Path("bundles/bench")
ROWS = 600

HEAD = """# Written by load/scaling.py for `make bench`; its rows are random.
name = "{name}"
version = "1"
serial = 1
title = "Synthetic rows of {features} features"
label = "class"
seed = {seed}
intended_use = "Measuring how cost grows."
limits = ["Says nothing about anything."]

[data]
path = "{name}.csv"
source = "random numbers"
licence = "CC0-1.0"

[split]
folds = 2
repeats = 1

[algorithm]
name = "xgboost"
rounds = {trees}
calibrate = "never"

[algorithm.params]
max_depth = 4
learning_rate = 0.1
"""
FEATURE = """
[[features]]
name = "x{index}"
description = "Random"
hard = [-100, 100]
plausible = [-10, 10]
"""
BAR = "[quality.default]\naccuracy_min = 0.0\ncalibration_error_max = 1.0\n"


@dataclass(frozen=True)
class Size:
    """How large a model is: two classes, so that a round is a tree."""

    features: int
    trees: int

    @property
    def name(self) -> str:
        """The bundle's name."""
        return f"f{self.features}-t{self.trees}"


FEATURES = (Size(4, 300), Size(20, 300), Size(200, 300))
TREES = (Size(4, 30), Size(4, 300), Size(4, 3000))


def made(size: Size, folder: Path = FOLDER) -> Bundle:
    """Return the bundle of a size, trained if it is not there yet.

    Raises:
        LoadError: the training failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spec, bar = folder / f"{size.name}.toml", folder / "slo.toml"
    head = HEAD.format(name=size.name, features=size.features, trees=size.trees, seed=SEED)
    spec.write_text(head + "".join(FEATURE.format(index=index) for index in range(size.features)))
    bar.write_text(BAR)
    _write_rows(folder / f"{size.name}.csv", size.features)
    command = [sys.executable, "-m", "model.train", str(spec), "--out", str(folder), "--slo", str(bar), "--if-changed"]
    trained = processes.run_on(processes.CORES, command, ROOT)
    if trained.returncode:
        raise LoadError(f"training {size.name} failed: {trained.stderr}")
    return bundles.read(folder / size.name)


def engine_seconds(bundle: Bundle) -> float:
    """Return the processor time of the engine alone for one row, in a process of its own on the servers' core."""
    command = [sys.executable, "-m", "load.engine_time", str(bundle.folder)]
    return float(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)


def _write_rows(path: Path, features: int) -> None:
    """Write rows whose class depends on four of their features, with some noise."""
    random = np.random.default_rng(SEED)
    rows = random.normal(size=(ROWS, features)).round(3)
    score = rows[:, 0] * rows[:, 1] + rows[:, 2] - rows[:, 3] ** 2 + 0.7 + 0.5 * random.normal(size=ROWS)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*(f"x{index}" for index in range(features)), "class"])
        writer.writerows(
            [*row, "above" if high else "below"] for row, high in zip(rows.tolist(), score > 0, strict=True)
        )
