"""What it costs to accept a batch: ordinary, with one unusual row, and with every row judged by the schema.

    python -m tests.soak.accept_costs

prints milliseconds for batches of 1,000 and 10,000 rows, medians of rounds in which the ways take turns.
Nothing else may run beside it, and bundles/penguins must be trained.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from model import predictor, verify
from model.bundle import resolve
from model.domain import Feature
from service.config import Settings
from service.errors import ServiceError
from service.instances import DEFAULTS
from service.loader import Ready
from service.native import Native

ROUNDS, SIZES = 9, (1_000, 10_000)
BUNDLES = Path("bundles/penguins")


def main() -> None:
    """Measure and print."""
    ready = Ready(predictor.load(verify.read(resolve(BUNDLES))))
    fast, slow = (Native(ready, Settings(fast_path=is_fast)) for is_fast in (True, False))
    features, seeded = ready.predictor.manifest.features, random.Random(5)
    print(f"{'':<24}" + "".join(f"{size:>12,} rows" for size in SIZES))
    found = [_rounds(_works(fast, slow, _rows(features, seeded, size))) for size in SIZES]
    for name in found[0]:
        print(f"{name:<24}" + "".join(f"{times[name]:>14.2f} ms" for times in found))


def _rows(features: tuple[Feature, ...], seeded: random.Random, count: int) -> list[dict[str, Any]]:
    """Return plausible rows."""
    return [{one.name: round(seeded.uniform(*one.plausible), 1) for one in features} for _ in range(count)]


def _works(fast: Native, slow: Native, rows: list[dict[str, Any]]) -> Mapping[str, Callable[[], object]]:
    """Return the ways by name."""
    name = next(iter(rows[0]))
    middle = len(rows) // 2
    odd = [*rows[:middle], {**rows[middle], name: str(rows[middle][name])}, *rows[middle + 1 :]]
    ordinary, mixed = (json.dumps({"instances": each}).encode() for each in (rows, odd))
    return {
        "ordinary": lambda: fast.decode(ordinary, DEFAULTS),
        "one text for a number": lambda: _refused(fast, mixed),
        "the same by the schema": lambda: _refused(slow, mixed),
    }


def _refused(native: Native, body: bytes) -> None:
    """Read a body that is refused."""
    with suppress(ServiceError):
        native.decode(body, DEFAULTS)


def _rounds(works: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median of each in milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            begin = time.perf_counter()
            work()
            times[name].append((time.perf_counter() - begin) * 1e3)
    return {name: statistics.median(each) for name, each in times.items()}


if __name__ == "__main__":
    main()
