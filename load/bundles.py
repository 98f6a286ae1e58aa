"""A bundle as a client sees it: its folder, its features, instances to send and the answers known for them."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SEED = 20140305

Instance = dict[str, float]


@dataclass(frozen=True)
class Bundle:
    """What is read of a manifest.

    Attributes:
        folder: holds `manifest.json` and is named by its digest.
        features: name and plausible range of each feature, in order.
        classes: names in order.
        golden: instances with their known probabilities, in class order.
    """

    folder: Path
    features: tuple[tuple[str, float, float], ...]
    classes: tuple[str, ...]
    golden: tuple[tuple[Instance, list[float]], ...]

    @property
    def digest(self) -> str:
        """The digest that settings take."""
        return f"sha256:{self.folder.name}"

    def instances(self, count: int) -> list[Instance]:
        """Return the same random instances every time, inside the plausible ranges."""
        chance = random.Random(SEED)  # noqa: S311 - not for secrets
        return [{name: round(chance.uniform(low, high), 2) for name, low, high in self.features} for _ in range(count)]


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
    features = tuple((f["name"], *f["plausible"]) for f in manifest["features"])
    names = [name for name, _, _ in features]
    golden = manifest["golden"]
    known = zip(golden["rows"], golden["probabilities"], strict=True)
    return Bundle(
        folder=folder.resolve(),
        features=features,
        classes=tuple(manifest["classes"]),
        golden=tuple((dict(zip(names, row, strict=True)), answer) for row, answer in known),
    )
