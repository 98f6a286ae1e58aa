"""A batch with some unusual rows is answered, or refused, byte for byte as if the schema had judged every row."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from model.domain import Feature
from service.accept import Accept
from service.answer import Answerer
from service.config import Settings
from service.form import Call
from service.reply import Reply
from tests.unit.service.bodies import write_mixed
from tests.unit.service.calls import ADELIE, PLOT, ROWS, encode

# bodies a model; raise it for a long run
EXAMPLES = 150
MOST_ROWS = 12
QUERIES = ("", "on_error=row", "on_unit=convert", "on_error=row&on_unit=convert", "explain=true&on_error=row")
ONE_ROW_AMONG_MANY: dict[str, tuple[str, Any]] = {
    "a string": ("penguins", {**ADELIE, "body_mass_g": "3750"}),
    "a boolean": ("penguins", {**ADELIE, "body_mass_g": True}),
    "null": ("penguins", {**ADELIE, "body_mass_g": None}),
    "a key too many": ("penguins", {**ADELIE, "island": "Dream"}),
    "a key too few": ("penguins", {"bill_length_mm": 39.1}),
    "another unit": ("penguins", {**ADELIE, "flipper_length_mm": 7.13}),
    "out of range": ("penguins", {**ADELIE, "body_mass_g": -1}),
    "an array": ("penguins", [39.1, 18.7, 181, 3750]),
    "a number": ("penguins", 7),
    "more than a float holds exactly": ("penguins", {**ADELIE, "body_mass_g": 2**63 + 1}),
    "a whole number with a point": ("plots", {**PLOT, "count": 7.0}),
    "a fraction of a whole number": ("plots", {**PLOT, "count": 7.5}),
    "a whole number that is rounded": ("plots", {**PLOT, "count": 2**53 + 1}),
    "null where it is allowed": ("plots", {**PLOT, "ph": None}),
    "a text that is not on the list": ("plots", {**PLOT, "soil": "moon"}),
    "a rare but possible value": ("plots", {**PLOT, "ph": 1}),
}


@pytest.fixture(scope="module")
def slow(answerers: dict[str, Answerer]) -> dict[str, Answerer]:
    """The same models through the schema alone."""
    return {name: Answerer(one.state, Settings(fast_path=False)) for name, one in answerers.items()}


def _features(answerer: Answerer) -> tuple[Feature, ...]:
    return answerer.require_model().predictor.manifest.features


def _without_times(reply: Reply) -> Reply:
    return reply._replace(headers=tuple(header for header in reply.headers if header[0] != "Server-Timing"))


@pytest.mark.parametrize("name", ROWS)
def test_mixed_batches_are_answered_as_by_the_schema(answerers, slow, name):
    statuses: Counter[int] = Counter()
    for seed in range(EXAMPLES):
        body = write_mixed(_features(answerers[name]), seed, MOST_ROWS)
        call = Call(body, query=QUERIES[seed % len(QUERIES)], request_id="test-1")
        actual, expected = answerers[name].answer(call), slow[name].answer(call)

        assert _without_times(expected) == _without_times(actual), body
        statuses[actual.status] += 1
    print(f"A9: {EXAMPLES} mixed batches for {name}: {dict(statuses)}, 0 differences")
    assert statuses.keys() >= {200, 400, 422}


@pytest.mark.parametrize("query", ["", "on_error=row&on_unit=convert"], ids=["refused", "by row"])
@pytest.mark.parametrize("is_table", [False, True], ids=["objects", "arrays"])
@pytest.mark.parametrize(("name", "odd"), ONE_ROW_AMONG_MANY.values(), ids=ONE_ROW_AMONG_MANY)
def test_one_unusual_row_is_judged_as_by_the_schema(answerers, slow, name, odd, is_table, query):
    rows: list[Any] = [ROWS[name], odd, ROWS[name]]
    body: dict[str, Any] = {"instances": rows}
    if is_table:
        rows = [list(row.values()) if isinstance(row, dict) else row for row in rows]
        body = {"instances": rows, "features": list(ROWS[name])}
    call = Call(encode(body), query=query, request_id="test-1")

    actual, expected = answerers[name].answer(call), slow[name].answer(call)

    assert _without_times(expected) == _without_times(actual)


def test_the_schema_is_asked_about_unusual_rows_alone(answerers):
    accept = Accept(answerers["plots"].require_model().predictor.manifest, MOST_ROWS)
    odd = [{**PLOT, "ph": 1.5}, {**PLOT, "count": 7.5}, {}, None]

    matrix, unusual = accept.lay_out([PLOT, *odd, {**PLOT, "ph": None}], None)

    assert unusual == [2, 3, 4]
    assert matrix.shape == (6, 4)
