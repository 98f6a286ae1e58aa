"""A bundle as a client sees it: its folder, its features, instances to send and the answers known for them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SEED = 20140305

Instance = dict[str, float]


@dataclass(frozen=True)
class Bundle:
    """What is read of a manifest.

    Attributes:
        folder: holds `manifest.json` and is named by its digest.
        features: name and plausible range of each feature, in order; numbers only.
        class_means: shape (k, d), of the training rows.
        covariance: shape (d, d), shared by the classes.
        golden: instances with their known probabilities, in class order.
        name: of the model.
        version: of the model.
        classes: their names, in order.
    """

    folder: Path
    features: tuple[tuple[str, float, float], ...]
    class_means: list[list[float]]
    covariance: list[list[float]]
    golden: tuple[tuple[Instance, list[float]], ...]
    name: str = ""
    version: str = ""
    classes: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The digest that settings take."""
        return f"sha256:{self.folder.name}"

    def instances(self, count: int) -> list[Instance]:
        """Return instances as ordinary as the training rows, the same ones every time."""
        random = np.random.default_rng(SEED)
        means = np.array(self.class_means)[random.integers(len(self.class_means), size=count)]
        rows = means + random.multivariate_normal(np.zeros(len(self.features)), self.covariance, size=count)
        low, high = (np.array([feature[side] for feature in self.features]) for side in (1, 2))
        names = [name for name, _, _ in self.features]
        return [dict(zip(names, row, strict=True)) for row in np.clip(rows, low, high).round(1).tolist()]


def read(folder: Path) -> Bundle:
    """Read a bundle.

    Args:
        folder: a bundle, or a folder of bundles with a text file `current`.

    Raises:
        SystemExit: there is none.
    """
    pointer = folder / "current"
    if pointer.is_file():
        folder = folder / pointer.read_text().strip()
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_bytes())
    except OSError as error:
        raise SystemExit(f"error: no bundle in {folder} ({error.strerror}); make one with `make train`") from error
    return of(manifest, folder.resolve())


def of(manifest: Mapping[str, Any], folder: Path) -> Bundle:
    """Read a manifest, or the model card of a service, which knows no golden rows.

    Args:
        manifest: as JSON.
        folder: named by the digest.
    """
    features = tuple((f["name"], *f["plausible"]) for f in manifest["features"])
    names = [name for name, _, _ in features]
    golden = manifest.get("golden", {})
    known = zip(golden.get("rows", ()), golden.get("probabilities", ()), strict=True)
    return Bundle(
        folder=folder,
        features=features,
        class_means=manifest["reference"]["class_means"],
        covariance=manifest["reference"]["covariance"],
        golden=tuple((dict(zip(names, row, strict=True)), answer) for row, answer in known),
        name=manifest["name"],
        version=manifest["version"],
        classes=tuple(manifest["classes"]),
    )
