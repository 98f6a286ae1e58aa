"""The routes for operators tell what runs, and say why when nothing does."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from model.libraries import versions
from service.answer import Answerer
from service.app import create_app
from service.config import Settings
from service.form import Call
from service.loader import NotReady
from service.monitor import Monitor
from service.ops import LIBRARIES, Lately, card
from service.tally import Tally
from tests.unit.service.calls import ADELIE, encode, request


def test_the_model_card_is_the_manifest_without_the_golden_rows(penguins_app, penguins, answerer):
    found = request(penguins_app, "GET", "/model").json
    assert {"count": len(penguins.manifest.golden.rows), "leaf_share": penguins.manifest.golden.leaf_share} == found[
        "golden"
    ]
    assert (penguins.digest, "tables", False, "available") == tuple(
        found[name] for name in ("digest", "engine", "fallback", "contributions")
    )
    assert list(penguins.manifest.feature_names) == [feature["name"] for feature in found["features"]]
    assert json.loads(json.dumps(card(penguins.manifest))).items() <= found.items()


def test_the_process_is_live_and_ready(penguins_app, answerer):
    live, ready = (request(penguins_app, "GET", path) for path in ("/health/live", "/health/ready"))
    assert (live.status, live.json) == (200, {"status": "live"})
    assert (200, {"status": "ready", "digest": answerer.digest}) == (ready.status, ready.json)


def test_the_version_names_commit_build_digest_and_libraries(answerer):
    app = create_app(replace(Settings(), commit="9a931e0", build_time="2026-01-01T00:00:00Z"), answerer)
    found = request(app, "GET", "/version").json
    assert {
        "commit": "9a931e0",
        "build_time": "2026-01-01T00:00:00Z",
        "digest": answerer.digest,
        "libraries": versions(LIBRARIES),
    } == found


@pytest.mark.parametrize("path", ["/model", "/health/ready", "/openapi.json"])
def test_without_a_model_the_reason_is_told(unready_app, path):
    answered = request(unready_app, "GET", path)
    assert (answered.status, answered.json["reason"], answered.header("Retry-After")) == (503, "hash_mismatch", "5")
    assert answered.header("Content-Type") == "application/problem+json"


@pytest.mark.parametrize("path", ["/health/live", "/v2/health/live"])
def test_an_instance_with_nothing_left_is_not_live(path):
    app = create_app(Settings(), Answerer(NotReady("quarantined", "it crashed three times"), Settings()))
    answered = request(app, "GET", path)
    assert answered.status == 503
    assert request(app, "GET", "/health/live").json["reason"] == "quarantined"


def test_without_a_model_the_process_is_live_and_has_a_version(unready_app):
    live, version = (request(unready_app, "GET", path) for path in ("/health/live", "/version"))
    assert (live.status, live.json) == (200, {"status": "live"})
    assert (version.status, version.json["digest"]) == (200, None)
    assert None is live.header("X-Model-Digest")


@pytest.mark.parametrize("name", ["penguins", "iris", "plots"])
def test_every_example_of_the_model_card_is_answered_as_it_says(answerers, name):
    app = create_app(Settings(), answerers[name])
    examples = request(app, "GET", "/model").json["examples"]
    assert {"typical", "doubtful"} == {example["kind"] for example in examples}
    for example in examples:
        answered = request(app, "POST", "/predict", json.dumps(example["instance"]).encode())
        assert (answered.status, answered.json["label"]) == (200, example["label"])


def test_what_costs_much_is_made_at_most_once_a_second():
    now, made = [0.0], []

    def make() -> bytes:
        made.append(now[0])
        return str(now[0]).encode()

    lately = Lately(make, 1.0, lambda: now[0])
    shown = []
    for now[0] in (0.0, 0.5, 0.999, 1.0, 1.5, 2.5):
        shown.append(lately())
    assert (made, shown) == ([0.0, 1.0, 2.5], [b"0.0", b"0.0", b"0.0", b"1.0", b"1.0", b"2.5"])


def test_what_could_not_be_made_is_tried_again():
    tries = []

    def make() -> bytes:
        tries.append(None)
        if len(tries) == 1:
            raise ValueError("not yet")
        return b"made"

    lately = Lately(make, 1.0, lambda: 0.0)
    with pytest.raises(ValueError, match="not yet"):
        lately()
    assert (lately(), lately(), len(tries)) == (b"made", b"made", 2)


@pytest.mark.parametrize(
    ("path", "headers"),
    [("/metrics", {}), ("/metrics", {"HTTP_ACCEPT": "application/openmetrics-text"}), ("/model/drift", {})],
    ids=["text", "openmetrics", "drift"],
)
def test_who_asks_again_at_once_gets_the_same(answerers, path, headers):
    state = answerers["penguins"].state
    tally = Tally(state)
    answerer = Answerer(state, Settings(), Monitor([tally]))
    app = create_app(Settings(), answerer, tally)
    shown = [request(app, "GET", path, **headers)]
    answerer.answer(Call(encode(ADELIE)))
    shown.append(request(app, "GET", path, **headers))
    assert [answer.status for answer in shown] == [200, 200]
    assert shown[0].body == shown[1].body
