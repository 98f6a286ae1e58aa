"""Batches of numbers are decoded into columns, and whatever is unusual about one leaves it undecided."""

from __future__ import annotations

import numpy as np
import pytest

from model.domain import Feature
from service.typed import NAMED, POSITIONAL, Batches
from tests.unit.service.calls import encode

FEATURES = (
    Feature(name="size", description="", dtype="float", hard=(-5, 5), plausible=(-5, 5)),
    Feature(name="count", description="", dtype="int", hard=(0, 100), plausible=(0, 100)),
)
BATCHES = Batches(FEATURES)


def named(*rows: dict[str, object]) -> bytes:
    return encode({"instances": list(rows)})


@pytest.mark.parametrize(
    ("body", "colons"),
    [
        (named({"size": 1.5, "count": 2}, {"count": 3.0, "size": -0.0}), 5),
        (encode({"instances": [[1.5, 2], [0, 3]], "features": ["size", "count"]}), 2),
        (encode({"instances": [[2, 1.5], [3, 0]], "features": ["count", "size"]}), 2),
    ],
    ids=["named", "positional", "permuted"],
)
def test_ordinary_batches_become_columns(body, colons):
    assert body.startswith(NAMED + POSITIONAL)

    matrix, found = BATCHES.decode(body)

    assert found == colons
    assert matrix.tobytes() == np.array([[1.5, 2], [0, 3]], dtype=np.float32).tobytes()


@pytest.mark.parametrize(
    "body",
    [
        named({"size": 5.1, "count": 2}),
        named({"size": -5.1, "count": 2}),
        named({"size": 1, "count": 2.5}),
        named({"size": True, "count": 2}),
        named({"size": None, "count": 2}),
        named({"size": "1", "count": 2}),
        named({"size": 1}),
        named({"size": 1, "count": 2, "other": 3}),
        encode({"instances": [[1, 2]]}),
        encode({"instances": [[1, 2]], "features": ["size", "size"]}),
        encode({"instances": [[1, 2, 3]], "features": ["size", "count"]}),
        encode({"instances": [[1, 2]], "features": ["size", "other"]}),
        b'{"instances": []}',
        b'{"instances":[{"size": 1e999, "count": 2}]}',
        b'{"instances":[[1, 2]], "features": ["size", "\xff"]}',
        b'{"instances":[{"size": 1, "count": 2}]',
    ],
)
def test_anything_unusual_is_left_to_others(body):
    assert BATCHES.decode(body) is None
