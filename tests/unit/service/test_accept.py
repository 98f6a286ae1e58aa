"""The fast way in says yes only where strict decoding and the schema say yes, and with the same matrix."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, note, settings
from hypothesis import strategies as st

from model.domain import ConfusedUnit, Feature
from model.manifest import Manifest
from service import decode
from service.accept import Accept
from service.answer import Answerer
from service.decode import Limits
from service.errors import ServiceError
from service.instances import DEFAULTS, Instances
from service.schemas import Judge
from tests.unit.service.bodies import write_body
from tests.unit.service.calls import ADELIE, PLOT, ROWS, encode

# bodies a model; raise it for a long run
EXAMPLES = 1000
MAX_INSTANCES = 3

WHOLE = Feature(name="count", description="", dtype="int", hard=(-(2.0**53), 2.0**53), plausible=(-(2.0**53), 2.0**53))
# a unit that explains no value, but makes rare ones worth a closer look
ODD = ConfusedUnit(symbol="q", name="quectos", factor=1e300)
SIZE = Feature(
    name="size", description="", dtype="float", hard=(-10, 3e38), plausible=(-1, 1e38), confused_units=(ODD,)
)
# so many that all values of an instance are looked at together
MANY = tuple(
    msgspec.structs.replace(SIZE if i % 2 else WHOLE, name=f"{'size' if i % 2 else 'count'}_{i}") for i in range(30)
)
SHAPES = {"whole": (WHOLE, SIZE), "lone": (SIZE,), "wide": MANY}
NAMES = ("penguins", "iris", "plots", "whole", "lone", "wide")


@dataclass(frozen=True)
class Ways:
    """Both ways in for one model."""

    manifest: Manifest
    accept: Accept
    judge: Judge

    def fast(self, body: bytes) -> Instances | None:
        """Return what the fast way says."""
        return self.accept.accept(body)

    def slow(self, body: bytes) -> Instances | None:
        """Return what decoding and the schema say, None for no."""
        try:
            return self.judge.judge(decode.strict(body), DEFAULTS)
        except ServiceError:
            return None


@pytest.fixture(scope="module")
def ways(answerers: dict[str, Answerer]) -> dict[str, Ways]:
    """Both ways for every model, and for features that no model here has."""
    predictors = {name: answerer.require_model().predictor for name, answerer in answerers.items()}
    for name, features in SHAPES.items():
        manifest = msgspec.structs.replace(predictors["plots"].manifest, features=features)
        # of a predictor, a judge that sees no mixed-up unit needs nothing else
        predictors[name] = SimpleNamespace(manifest=manifest)  # type: ignore[assignment]
    return {
        name: Ways(p.manifest, Accept(p.manifest, MAX_INSTANCES), Judge(p, MAX_INSTANCES))
        for name, p in predictors.items()
    }


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 2**63))
@settings(max_examples=EXAMPLES, derandomize=True, deadline=None)
def test_a_body_accepted_fast_is_valid_with_the_same_matrix(ways, name, seed):
    both = ways[name]
    body = write_body(both.manifest.features, seed)
    note(repr(body))
    try:
        decode.refuse_excess(body, Limits.of(both.manifest.features, MAX_INSTANCES))
    except ServiceError:
        return
    fast = both.fast(body)
    if fast is None:
        return
    slow = both.slow(body)
    assert slow is not None
    assert (slow.is_single, slow.matrix.shape, slow.matrix.dtype) == (
        fast.is_single,
        fast.matrix.shape,
        fast.matrix.dtype,
    )
    assert slow.matrix.tobytes() == fast.matrix.tobytes()
    assert (len(slow), dict(slow.failures), dict(slow.conversions)) == (len(fast), {}, {})


@pytest.mark.parametrize("name", NAMES)
def test_the_generated_bodies_take_every_way(ways, name):
    both = ways[name]
    bodies = [write_body(both.manifest.features, seed) for seed in range(400)]
    outcomes = {(both.fast(body) is not None, both.slow(body) is not None) for body in bodies}
    assert outcomes == {(True, True), (False, True), (False, False)}
    assert sum(both.fast(body) is not None for body in bodies) > 120


@pytest.mark.parametrize("name", ["penguins", "iris", "plots"])
@pytest.mark.parametrize("shape", ["single", "batch", "table", "permuted"])
def test_ordinary_bodies_are_accepted_fast(ways, name, shape):
    row = ROWS[name]
    turned = dict(reversed(row.items()))
    body = {
        "single": row,
        "batch": {"instances": [row, turned]},
        "table": {"instances": [list(row.values())] * 2, "features": list(row)},
        "permuted": {"features": list(turned), "instances": [list(turned.values())]},
    }[shape]
    raw = encode(body)
    fast, slow = ways[name].fast(raw), ways[name].slow(raw)
    assert fast is not None
    assert slow is not None
    assert slow.matrix.tobytes() == fast.matrix.tobytes()


def _without(name: str) -> dict[str, object]:
    return {key: value for key, value in ADELIE.items() if key != name}


UNUSUAL = {
    "not JSON": b"{",
    "an array": [ADELIE],
    "a feature missing": _without("body_mass_g"),
    "a feature unknown": {**ADELIE, "island": "Dream"},
    "another name": {**_without("body_mass_g"), "mass": 1},
    "a key twice": b'{"body_mass_g": 1,' + encode(ADELIE)[1:],
    "a key twice, once with an escape": b'{"body_mas\\u0073_g": 3750,' + encode(ADELIE)[1:],
    "a colon in a string": {**_without("body_mass_g"), "body_mass_g": ":"},
    "a string": {**ADELIE, "body_mass_g": "3750"},
    "a boolean": {**ADELIE, "body_mass_g": True},
    "null": {**ADELIE, "body_mass_g": None},
    "outside the plausible range": {**ADELIE, "body_mass_g": 9001},
    "no rows": {"instances": []},
    "rows that are no array": {"instances": ADELIE},
    "too many rows": {"instances": [ADELIE] * (MAX_INSTANCES + 1)},
    "something beside the rows": {"instances": [ADELIE], "x": 1},
    "rows twice": b'{"instances":[],"instances":[' + encode(ADELIE) + b"]}",
    "rows of two kinds": {"instances": [ADELIE, list(ADELIE.values())]},
    "rows inside rows": {"instances": [[ADELIE]]},
    "rows without names": {"instances": [list(ADELIE.values())]},
    "a row with too much": {"instances": [{**ADELIE, "x": 1}]},
    "a row with another name": {"instances": [{**_without("body_mass_g"), "mass": 1}]},
    "a row with a string": {"instances": [{**ADELIE, "body_mass_g": "3750"}]},
    "a row outside the plausible range": {"instances": [ADELIE, {**ADELIE, "body_mass_g": 9001}]},
    "names that are null": {"instances": [ADELIE], "features": None},
    "names that are no array": {"instances": [list(ADELIE.values())], "features": "x"},
    "names that are numbers": {"instances": [list(ADELIE.values())], "features": [1, 2, 3, 4]},
    "a name twice": {"instances": [list(ADELIE.values())], "features": [*list(ADELIE)[:3], "bill_length_mm"]},
    "a name too few": {"instances": [list(ADELIE.values())[:3]], "features": list(ADELIE)[:3]},
    "arrays expected, objects given": {"instances": [ADELIE], "features": list(ADELIE)},
    "an array too short": {"instances": [[1, 2, 3]], "features": list(ADELIE)},
    "an array with an array": {"instances": [[39.1, 18.7, 181, [3750]]], "features": list(ADELIE)},
}


@pytest.mark.parametrize("body", UNUSUAL.values(), ids=UNUSUAL.keys())
def test_anything_unusual_is_left_to_the_schema(ways, body):
    assert ways["penguins"].fast(encode(body)) is None


UNUSUAL_PLOTS = {
    "another category": {**PLOT, "soil": "peat"},
    "a number for a category": {**PLOT, "soil": 1},
    "a string for a number": {**PLOT, "depth_m": "clay"},
    "null for a category": {**PLOT, "soil": None},
    "a fraction for a whole number": {**PLOT, "count": 7.5},
    "a nullable feature left out": {**{k: v for k, v in PLOT.items() if k != "ph"}, "x": None},
    "too few": {k: v for k, v in PLOT.items() if k != "ph"},
    "a colon in a value, which counts as a key": {**PLOT, "soil": "loam: old"},
    "a row with another category": {"instances": [PLOT, {**PLOT, "soil": "peat"}]},
    "an array with another category": {"instances": [[1, 2, 3, "peat"]], "features": list(PLOT)},
}


@pytest.mark.parametrize("body", UNUSUAL_PLOTS.values(), ids=UNUSUAL_PLOTS.keys())
def test_categories_nulls_and_whole_numbers_are_judged_one_by_one(ways, body):
    assert ways["plots"].fast(encode(body)) is None


def test_null_and_category_become_nan_and_position(ways):
    fast = ways["plots"].fast(encode({**PLOT, "ph": None, "soil": "sand [wet]"}))
    assert fast is not None
    assert np.array_equal(np.array([[3.25, 7, np.nan, 1]], dtype=np.float32), fast.matrix, equal_nan=True)


@pytest.mark.parametrize("text", ["7.0", "7e0", "7", "70E-1"])
def test_every_spelling_of_a_whole_number_is_one(ways, text):
    fast = ways["whole"].fast(f'{{"instances": [{{"count": {text}, "size": 1}}]}}'.encode())
    assert fast is not None
    assert fast.matrix.tolist() == [[7.0, 1.0]]


def test_a_fraction_among_whole_numbers_is_left_to_the_schema(ways):
    assert ways["whole"].fast(b'{"instances": [{"count": 7, "size": 1}, {"count": 7.5, "size": 1}]}') is None


@pytest.mark.parametrize("shape", ["[%s]", '{"count": %s, "size": 1}'])
@pytest.mark.parametrize("number", ["9007199254740993", "-9007199254740993", "9007199254740992.5"])
def test_a_number_that_only_rounding_brings_inside_is_judged_alike(ways, shape, number):
    row = shape % (f"{number}, 1" if shape.startswith("[") else number)
    names = ', "features": ["count", "size"]' if shape.startswith("[") else ""
    body = f'{{"instances": [{row}]{names}}}'.encode()
    fast, slow = ways["whole"].fast(body), ways["whole"].slow(body)
    assert fast is not None
    assert slow is not None
    assert slow.matrix.tobytes() == fast.matrix.tobytes()


ZEROS = {
    "one": ("lone", '{"size": %s}'),
    "a batch": ("lone", '{"instances": [{"size": %s}]}'),
    "a table": ("lone", '{"instances": [[%s]], "features": ["size"]}'),
    "a batch, all at once": ("whole", '{"instances": [{"size": %s, "count": -0}]}'),
    "a table, all at once": ("whole", '{"instances": [[-0.0, %s]], "features": ["size", "count"]}'),
}


@pytest.mark.parametrize("zero", ["-0", "-0.0", "-0e5"])
@pytest.mark.parametrize(("name", "template"), ZEROS.values(), ids=ZEROS.keys())
def test_negative_zero_is_zero(ways, name, template, zero):
    fast = ways[name].fast((template % zero).encode())
    assert fast is not None
    assert np.zeros(fast.matrix.shape, dtype=np.float32).tobytes() == fast.matrix.tobytes()


@given(value=st.floats(25, 70), spelling=st.sampled_from(["{!r}", "{:.17g}", "{:.30f}", "{:.25E}"]))
@example(39.1, "39.10")
@settings(max_examples=EXAMPLES, derandomize=True, deadline=None)
def test_both_ways_read_the_same_number_from_the_same_text(ways, value, spelling):
    body = encode(ADELIE).replace(b"39.1", spelling.format(value).encode())
    fast, slow = ways["penguins"].fast(body), ways["penguins"].slow(body)
    assert (fast is None) == (not 25 <= json.loads(body)["bill_length_mm"] <= 70)
    if fast is not None:
        assert slow is not None
        assert slow.matrix.tobytes() == fast.matrix.tobytes()


def test_endless_number_is_neither_accepted_nor_judged(ways: dict[str, Ways]):
    body = encode(ADELIE).replace(b"39.1", b"39.1" + b"0" * 400)

    assert ways["penguins"].slow(encode(ADELIE)) is not None
    assert ways["penguins"].fast(body) is None
    assert ways["penguins"].slow(body) is None
