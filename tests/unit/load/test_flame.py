from __future__ import annotations

from load.flame import self_times


def test_samples_belong_to_the_innermost_function():
    raw = "main;serve (a.py);run 3\nmain;serve (a.py) 2\nmain;other;run 4\n"

    assert self_times(raw) == {"run": 7, "serve (a.py)": 2}
