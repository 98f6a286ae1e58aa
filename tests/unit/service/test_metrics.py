"""Prometheus sees which model answers and what the cold start took."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from model.predictor import Predictor
from service import metrics
from service.answer import Answerer
from service.app import create_app
from service.config import Settings
from service.loader import Attempt, NotReady, Ready, State
from service.startup import Startup
from tests.unit.service.calls import request

PHASES = {"imports": 0.5, "fetch": 0.25, "total": 1.5}
PINNED = Attempt("pinned", "gs://models/b/", None, "hash_mismatch", "another file")


def scrape(state: State) -> dict[tuple[str, ...], float]:
    """Return every sample by its name and labels."""
    text = metrics.exposition(state, PHASES).decode()
    return {
        (sample.name, *sorted(map("=".join, sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def info(predictor: Predictor, origin: str) -> tuple[str, ...]:
    """Return the name and labels of the sample that names the model."""
    digest = predictor.bundle.digest
    return (metrics.MODEL_INFO, f"digest={digest}", "engine=tables", "name=penguins", f"origin={origin}", "version=1")


COLD_START = {(metrics.COLD_START, f"phase={name}"): seconds for name, seconds in PHASES.items()}


def test_the_pinned_model_is_named(penguins_predictor):
    assert {
        **COLD_START,
        (metrics.READY,): 1.0,
        (metrics.FALLBACK,): 0.0,
        info(penguins_predictor, "pinned"): 1.0,
    } == scrape(Ready(penguins_predictor, (Attempt("pinned", "bundle", None),)))


@pytest.mark.parametrize("origin", ["last_known_good", "fallback", "baked_in"])
def test_a_fallback_is_told(penguins_predictor, origin):
    found = scrape(Ready(penguins_predictor, (PINNED, Attempt(origin, "bundle", None))))
    assert (found[(metrics.FALLBACK,)], found[info(penguins_predictor, origin)]) == (1.0, 1.0)


def test_without_a_model_none_is_named():
    assert scrape(NotReady("hash_mismatch", "another file", (PINNED,))) == {**COLD_START, (metrics.READY,): 0.0}


def test_two_scrapes_are_equal(penguins_predictor):
    state = Ready(penguins_predictor)
    assert metrics.exposition(state, PHASES) == metrics.exposition(state, PHASES)


def test_the_route_tells_the_phases_of_the_clock_as_they_are_now(answerer):
    clock = Startup(answerer.state)
    app = create_app(Settings(), answerer, clock)
    before = request(app, "GET", "/metrics")
    clock.listening()
    after = request(app, "GET", "/metrics")
    assert (after.status, after.header("Content-Type")) == (200, metrics.CONTENT_TYPE)
    assert [b'phase="listen"' in answered.body for answered in (before, after)] == [False, True]


def test_the_route_answers_without_a_model(unready_app):
    answered = request(unready_app, "GET", "/metrics")
    assert (answered.status, b"\nrookery_model_ready 0.0\n" in answered.body) == (200, True)


def test_a_fallback_is_seen_in_every_place(penguins_predictor):
    attempts = (PINNED, Attempt("baked_in", "bundle", None))
    answerer = Answerer(Ready(penguins_predictor, attempts, {"fetch": 0.25}), Settings())
    app = create_app(Settings(), answerer)
    card = request(app, "GET", "/model")
    assert (card.header("X-Model-Fallback"), card.json["fallback"], card.json["load_seconds"]) == (
        "baked_in",
        True,
        {"fetch": 0.25},
    )
    assert card.json["attempts"] == [
        {"origin": "pinned", "uri": "gs://models/b/", "code": "hash_mismatch", "reason": "another file"},
        {"origin": "baked_in", "uri": "bundle"},
    ]
    for path, body in (("/predict", {}), ("/nowhere", b"")):
        assert request(app, "POST", path, body).header("X-Model-Fallback") == "baked_in"
    assert b"\nrookery_model_fallback 1.0\n" in request(app, "GET", "/metrics").body
