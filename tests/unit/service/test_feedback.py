"""Feedback becomes an event and counts, and what is not feedback is refused."""

from __future__ import annotations

import json
import logging
import re

import pytest

from model.manifest import example
from service.answer import Answerer
from service.app import create_app
from service.config import Settings
from service.families import MOST_CONFUSED, confusion
from service.loader import NotReady
from service.monitor import Monitor
from service.tally import Tally
from tests.unit.service.calls import request

ON = Settings(feedback=True)


class Service:
    """An application that takes feedback."""

    def __init__(self, known: Answerer) -> None:
        """Count in a tally of its own."""
        tally = Tally(known.state)
        self.answerer = Answerer(known.state, ON, Monitor([tally]))
        self.app = create_app(ON, self.answerer, tally)

    def predict(self, request_id: str, count: int = 0) -> str:
        """Ask for one or more predictions, and return the first label."""
        row = example(self.answerer.require_model().predictor.manifest)
        body = json.dumps({"instances": [row] * count} if count else row).encode()
        answered = request(self.app, "POST", "/predict", body, HTTP_X_REQUEST_ID=request_id).json
        return (answered["predictions"][0] if count else answered)["label"]

    def tell(self, value: object, **headers: str):
        """Send feedback."""
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        return request(self.app, "POST", "/feedback", body, **headers)

    def counted(self) -> dict[str, float]:
        """Return the feedback that /metrics shows, without zeros."""
        text = request(self.app, "GET", "/metrics").body.decode()
        found = re.findall(r"^(rookery_feedback\w*(?:\{.*?\})?) (\S+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in found if float(value)}


@pytest.fixture
def service(answerer: Answerer) -> Service:
    """Penguins."""
    return Service(answerer)


def test_a_truth_is_an_event_and_counts_against_what_was_predicted(service, caplog):
    caplog.set_level(logging.INFO)
    assert service.predict("r-1") == "Adelie"
    answered = service.tell({"request_id": "r-1", "label": "Gentoo"})

    assert (answered.status, answered.json) == (202, {"request_id": "r-1", "is_known": True})
    assert service.counted() == {'rookery_feedback_total{label="Gentoo",predicted="Adelie"}': 1.0}
    [record] = [record for record in caplog.records if record.message == "feedback.received"]
    assert {name: vars(record)[name] for name in ("request_id", "label", "row", "is_known", "predicted", "digest")} == {
        "request_id": "r-1",
        "label": "Gentoo",
        "row": 0,
        "is_known": True,
        "predicted": "Adelie",
        "digest": service.answerer.digest,
    }


def test_a_truth_counts_once_and_what_is_not_known_counts_apart(service):
    service.predict("r-1")
    told = [service.tell({"request_id": name, "label": "Adelie"}).json["is_known"] for name in ("r-1", "r-1", "r-2")]
    assert told == [True, False, False]
    assert service.counted() == {
        'rookery_feedback_total{label="Adelie",predicted="Adelie"}': 1.0,
        "rookery_feedback_unknown_total": 2.0,
    }


def test_a_row_of_a_batch_is_named(service):
    service.predict("r-1", count=3)
    assert [
        service.tell({"request_id": "r-1", "label": "Adelie", "row": row}).json["is_known"] for row in (2, 1.0, 3)
    ] == [
        True,
        True,
        False,
    ]


REFUSED = {
    "no label": ({"request_id": "a"}, [("/label", "missing")]),
    "nothing": ({}, [("/label", "missing"), ("/request_id", "missing")]),
    "no class": ({"request_id": "a", "label": "Emperor"}, [("/label", "range")]),
    "a number": ({"request_id": "a", "label": 0}, [("/label", "type")]),
    "null": ({"request_id": None, "label": "Adelie"}, [("/request_id", "null")]),
    "an id that is none": ({"request_id": "a b", "label": "Adelie"}, [("/request_id", "range")]),
    "a new line": ({"request_id": "a\n", "label": "Adelie"}, [("/request_id", "range")]),
    "a long id": ({"request_id": "a" * 129, "label": "Adelie"}, [("/request_id", "range")]),
    "a row before the first": ({"request_id": "a", "label": "Adelie", "row": -1}, [("/row", "range")]),
    "half a row": ({"request_id": "a", "label": "Adelie", "row": 1.5}, [("/row", "type")]),
    "true": ({"request_id": "a", "label": "Adelie", "row": True}, [("/row", "type")]),
    "a row in words": ({"request_id": "a", "label": "Adelie", "row": "1"}, [("/row", "type")]),
    "more": ({"request_id": "a", "label": "Adelie", "predicted": "Adelie"}, [("/predicted", "unknown")]),
    "a list": ([], [("", "type")]),
}


@pytest.mark.parametrize(("body", "problems"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_feedback_is_refused_with_the_place(service, body, problems):
    answered = service.tell(body)
    assert (answered.status, answered.json["type"]) == (422, "urn:rookery:problem:invalid-feedback")
    assert sorted((error["pointer"], error["code"]) for error in answered.json["errors"]) == problems
    assert service.counted() == {}


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b'{"label": "a", "label": "b"}', {}, 400),
        (b'{"label": "' + b"x" * 5000 + b'"}', {}, 413),
        (b"{}", {"CONTENT_TYPE": "text/plain"}, 415),
        (b"{}", {"HTTP_CONTENT_ENCODING": "gzip"}, 415),
    ],
    ids=["not JSON", "a duplicate key", "too large", "text", "packed"],
)
def test_it_is_read_as_strictly_as_instances(service, body, headers, status):
    assert service.tell(body, **headers).status == status


def test_it_is_off_unless_it_is_enabled(penguins_app):
    assert request(penguins_app, "POST", "/feedback", b"{}").status == 404


def test_without_a_model_nothing_is_taken():
    answerer = Answerer(NotReady("hash_mismatch", "x"), ON)
    assert request(create_app(ON, answerer), "POST", "/feedback", b"{}").status == 503


def test_with_very_many_classes_only_right_ones_have_series_of_their_own():
    few, many = (tuple(map(str, range(count))) for count in (MOST_CONFUSED, MOST_CONFUSED + 1))
    assert len(confusion(few)) == MOST_CONFUSED**2
    assert confusion(many)[32:35] == (("32", "32"), ("0", "other"), ("1", "other"))
