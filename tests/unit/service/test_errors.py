"""Every exception becomes a problem document, and none of them tells too much."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service import errors
from service.errors import (
    MAX_ECHO,
    MAX_PROBLEMS,
    MAX_REPLY_BYTES,
    OtherHttpError,
    Problem,
    ServiceError,
    echo,
    pointer,
    to_reply,
)
from service.reply import PROBLEM
from service.stopping import Stopping

MODEL = (("X-Model-Digest", "sha256:" + "ab" * 32), ("X-Model-Fallback", "baked_in"))

CLASSES = {
    errors.MalformedBody: (400, "malformed-body"),
    errors.AmbiguousBody: (400, "ambiguous-body"),
    errors.ImplausibleValue: (400, "implausible-value"),
    errors.InvalidParameter: (400, "invalid-parameter"),
    errors.RouteNotFound: (404, "not-found"),
    errors.MethodNotAllowed: (405, "method-not-allowed"),
    errors.NotAcceptable: (406, "not-acceptable"),
    errors.BodyTooLarge: (413, "body-too-large"),
    errors.TooManyInstances: (413, "too-many-instances"),
    errors.UnsupportedMediaType: (415, "unsupported-media-type"),
    errors.InvalidInstance: (422, "invalid-instance"),
    errors.InvalidFeedback: (422, "invalid-feedback"),
    errors.NoModel: (503, "no-model"),
    errors.Overloaded: (503, "overloaded"),
    errors.RateLimited: (429, "rate-limited"),
    Stopping: (503, "stopping"),
}


def _body(error: BaseException) -> dict[str, object]:
    found: dict[str, object] = json.loads(to_reply(error, "id-1", ()).body)
    return found


@pytest.mark.parametrize(("kind", "status", "slug"), [(k, *v) for k, v in CLASSES.items()], ids=lambda v: str(v)[:40])
def test_a_refusal_becomes_a_problem_document(kind, status, slug):
    reply = to_reply(kind([Problem("/a", "type", "must be a number")]), "id-1", MODEL)
    assert status == reply.status
    assert reply.headers == (("Content-Type", PROBLEM), ("X-Request-Id", "id-1"), *MODEL)
    assert {
        "type": f"urn:rookery:problem:{slug}",
        "title": kind.title,
        "status": status,
        "detail": "1 problem",
        "request_id": "id-1",
        "errors": [{"pointer": "/a", "code": "type", "message": "must be a number"}],
    } == json.loads(reply.body)


def test_every_refusal_there_is_stands_in_the_table():
    assert set(ServiceError.__subclasses__()) == {*CLASSES, OtherHttpError}


def test_without_a_model_none_is_named():
    assert to_reply(errors.NoModel(), "id-1", ()).headers == (("Content-Type", PROBLEM), ("X-Request-Id", "id-1"))


def test_without_problems_the_title_is_the_detail_and_there_is_no_list():
    body = _body(errors.RouteNotFound())
    assert (body["detail"], "errors" in body) == ("There is no such route", False)


def test_a_suggestion_is_told():
    body = _body(errors.ImplausibleValue([Problem("/a", "unit", "in inches", ("in", 181.1))]))
    assert body["errors"] == [
        {"pointer": "/a", "code": "unit", "message": "in inches", "suggestion": {"unit": "in", "value": 181.1}}
    ]


def test_further_members_and_headers_are_told():
    refusal = errors.NoModel(detail="none", headers=(("Retry-After", "5"),), reason="hash_mismatch")
    reply = to_reply(refusal, "id-1", ())
    assert ("Retry-After", "5") in reply.headers
    assert json.loads(reply.body)["reason"] == "hash_mismatch"


def test_the_framework_s_refusals_keep_their_status_and_phrase():
    body = _body(OtherHttpError(408, "The request did not arrive in time"))
    assert (
        body["status"],
        body["title"],
        body["type"],
    ) == (408, "The request did not arrive in time", "urn:rookery:problem:http")


@pytest.mark.parametrize("error", [ValueError("secret 39.1"), RecursionError(), MemoryError(), KeyError("secret")])
def test_what_is_our_fault_tells_nothing_but_the_request_id(error):
    reply = to_reply(error, "id-1", MODEL)
    assert reply.status == 500
    assert b"secret" not in reply.body
    assert json.loads(reply.body) == {
        "type": "urn:rookery:problem:internal",
        "title": "Internal error",
        "status": 500,
        "detail": "The service failed. Its operators find the cause under the request id.",
        "request_id": "id-1",
        "errors": [{"pointer": "", "code": "internal", "message": "the service failed; report the request id"}],
    }


@pytest.mark.parametrize("count", [2, MAX_PROBLEMS, MAX_PROBLEMS + 1, 500])
def test_the_first_twenty_problems_are_named_and_all_are_counted(count):
    body = _body(errors.InvalidInstance([Problem(f"/{i}", "type", "x") for i in range(count)]))
    assert f"{count} problems" == body["detail"]
    assert [f"/{i}" for i in range(min(count, 20))] == [error["pointer"] for error in body["errors"]]  # type: ignore[attr-defined]


@pytest.mark.parametrize("letter", ["x", '"', "\x01", "ä", "\N{PENGUIN}"], ids=ascii)
def test_long_messages_never_make_a_reply_long(letter):
    problems = [Problem("/soil", "range", letter * 2_000)] * 30
    reply = to_reply(errors.ImplausibleValue(problems), "i" * 128, MODEL)
    named = json.loads(reply.body)["errors"]
    assert len(reply.body) <= MAX_REPLY_BYTES
    assert 0 < len(named) < MAX_PROBLEMS
    assert json.loads(reply.body)["detail"] == "30 problems"


def test_a_detail_that_is_too_long_alone_is_still_answered():
    assert to_reply(errors.RouteNotFound(detail="x" * MAX_REPLY_BYTES), "id-1", ()).status == 404


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ((), ""),
        (("a",), "/a"),
        (("instances", 3, "a"), "/instances/3/a"),
        (("",), "/"),
        (("a/b~c",), "/a~1b~0c"),
        (("~1",), "/~01"),
    ],
)
def test_a_pointer_follows_rfc_6901(steps, expected):
    assert expected == pointer(*steps)


@given(st.text(max_size=200))
@settings(max_examples=200, derandomize=True)
def test_at_most_64_characters_are_repeated(text):
    shown = echo(text)
    assert len(shown) <= MAX_ECHO
    assert text == shown if len(text) <= MAX_ECHO else text.startswith(shown[:-1])
    assert shown == pointer(text)[1:].replace("~1", "/").replace("~0", "~")
