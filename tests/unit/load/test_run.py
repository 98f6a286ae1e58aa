"""A run says how it went, to a person and to a script."""

from __future__ import annotations

import json
from pathlib import Path

from load import run


def test_a_run_is_told_in_a_few_words():
    samples = {"failure": ["", "wrong answers: 1", "", "timeout"], "total_ms": [1, 2, 3, 4]}
    kept = {"scenario": "spike", "quick": True, "host": "http://x", "bundle": "sha256:ab", "samples": samples}
    told = run.outcome(kept, Path("load/results/spike-quick.json.gz"))

    assert json.loads(json.dumps(told)) == {
        "scenario": "spike",
        "quick": True,
        "host": "http://x",
        "bundle": "sha256:ab",
        "requests": 4,
        "failures": 2,
        "file": "load/results/spike-quick.json.gz",
    }
    assert run.WORDS.format(**told) == "spike: 4 requests, 2 failures; written to load/results/spike-quick.json.gz"
