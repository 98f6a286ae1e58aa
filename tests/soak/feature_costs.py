"""What of a prediction's time grows with the number of features: reading, accepting, computing.

    python -m tests.soak.feature_costs

prints microseconds in one process for the bundles that `make bench ARGS="--only growth"` has trained, the lower
quartile of many takes. "read" is orjson's value of the body, and its numbers by name in the model's order. Nothing
else may run beside it.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson

from load import bundles
from model import predictor, verify
from service.answer import Answerer
from service.config import Settings
from service.form import Call
from service.instances import DEFAULTS
from service.loader import Ready
from service.monitor import Monitor
from service.reply import JSON

TAKES = 2_000
BUNDLES = ("f4-t300", "f20-t300", "f200-t300")


def main() -> None:
    """Measure and print."""
    print(f"{'':<10}{'body':>9}{'read':>9}{'accept':>9}{'engine':>9}{'answer':>9}")
    for name in BUNDLES:
        print(f"{name:<10}" + _line(Path("bundles/bench") / name))


def _line(folder: Path) -> str:
    """Return the figures of one bundle."""
    bundle = bundles.read(folder)
    ready = Ready(predictor.load(verify.read(bundle.folder)))
    answerer = Answerer(ready, Settings(), Monitor())
    [instance] = bundle.instances(1)
    body, names = json.dumps(instance).encode(), ready.predictor.manifest.feature_names
    row = [float(np.float32(instance[name])) for name in names]
    call = Call(body, content_type=JSON)

    def read() -> None:
        found = orjson.loads(body)
        np.array([[found[name] for name in names]], np.float32)

    works: list[Callable[[], object]] = [
        read,
        lambda: answerer.native.decode(body, DEFAULTS),
        lambda: ready.predictor.engine.predict_one(row),
        lambda: answerer.answer(call),
    ]
    return f"{len(body):>7} B" + "".join(f"{_microseconds(work):>6.1f} µs" for work in works)


def _microseconds(work: Callable[[], object]) -> float:
    """Return the lower quartile of how long it takes."""
    times = []
    for _ in range(TAKES):
        begin = time.perf_counter()
        work()
        times.append((time.perf_counter() - begin) * 1e6)
    return statistics.quantiles(times, n=4)[0]


if __name__ == "__main__":
    main()
