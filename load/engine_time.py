"""Times a bundle's engine alone, one row a call: `python -m load.engine_time FOLDER` prints seconds."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from load.processes import SERVER_CORE
from model.command_line import Parser

WARM_UP = 200
MEASURED_SECONDS = 1.0


def predictor(folder: Path) -> Callable[[Any], object]:
    """Load the engine that serves a bundle, on one thread; returns what answers one matrix."""
    if json.loads((folder / "manifest.json").read_bytes())["engines"]["default"] == "onnx":
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = ort.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda matrix: session.run(["probabilities"], {name: matrix})
    import xgboost

    booster = xgboost.Booster({"nthread": 1}, model_file=str(folder / "model.json"))
    return booster.inplace_predict


def seconds_per_row(predict: Callable[[Any], object], rows: Any) -> float:
    """Return the processor time of one call with one row."""
    for index in range(WARM_UP):
        predict(rows[index % len(rows)])
    calls, begin = 0, time.process_time()
    while time.process_time() - begin < MEASURED_SECONDS:
        for row in rows:
            predict(row)
        calls += len(rows)
    return (time.process_time() - begin) / calls


def main(arguments: Sequence[str] | None = None) -> int:
    """Time one bundle on the core that servers get."""
    parser = Parser(
        prog="python -m load.engine_time",
        description=__doc__,
        epilog="exit status: 0 timed, 2 wrong usage\n\nexample: python -m load.engine_time bundles/penguins/<digest>",
    )
    parser.add_argument("folder", type=Path, help="a bundle")
    folder = parser.parse_args(arguments).folder
    os.sched_setaffinity(0, {SERVER_CORE})
    try:
        golden = json.loads((folder / "manifest.json").read_bytes())["golden"]["rows"]
    except OSError as error:
        parser.error(f"no bundle in {folder} ({error.strerror}); make one with `make train`")
    rows = [np.array([row], dtype=np.float32) for row in golden]
    print(seconds_per_row(predictor(folder), rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
