"""The whole of a prediction: every row of the refusal table, the options, and what happens when we fail."""

from __future__ import annotations

import json
import logging
import re
import tracemalloc
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from model.engines import XGBoostEngine
from model.explain import log_odds
from service.answer import Answerer, request_id_for
from service.config import Settings
from service.errors import NoModel
from service.form import Call
from service.loader import NotReady, Ready
from tests.unit.service.calls import ADELIE, PLOT, ROWS, SETOSA, ask, codes, encode, read
from tests.unit.service.failing import failing

SETTINGS = Settings()
MAX_REPLY_BYTES = 16 << 10


@pytest.fixture(scope="module")
def small(answerers: dict[str, Answerer]) -> Answerer:
    """Penguins that take 3 instances and 1,024 bytes."""
    return Answerer(answerers["penguins"].state, replace(SETTINGS, max_instances=3, max_body_bytes=1024))


@pytest.fixture(scope="module")
def slow(answerers: dict[str, Answerer]) -> Answerer:
    """Penguins through the schema alone."""
    return Answerer(answerers["penguins"].state, replace(SETTINGS, fast_path=False))


@pytest.mark.parametrize("name", ROWS)
def test_an_instance_is_answered_as_the_model_answers_it(answerers, name):
    answerer = answerers[name]
    ready = answerer.require_model()
    reply = ask(answerer, ROWS[name])
    found = read(reply)
    features = ready.predictor.manifest.features
    row = [f.values.index(v) if f.is_category else v for f, v in zip(features, ROWS[name].values(), strict=True)]
    known = ready.predictor.predict(np.array([row], dtype=np.float32))
    classes = ready.predictor.manifest.classes
    assert reply.status == 200
    assert {
        "prediction": int(known.classes[0]),
        "label": classes[known.classes[0]],
        "probabilities": dict(zip(classes, known.probabilities[0].tolist(), strict=True)),
        "prediction_set": [c for c, member in zip(classes, known.sets[0], strict=True) if member],
        "novelty": float(known.novelty[0]),
        "is_novel": bool(known.is_novel[0]),
        "model": {"name": name, "version": ready.predictor.manifest.version, "digest": ready.digest, "fallback": False},
    } == found
    assert pytest.approx(sum(found["probabilities"].values()), abs=1e-6) == 1


def test_an_answer_carries_id_digest_and_timing(answerer):
    reply = ask(answerer, ADELIE)
    headers = dict(reply.headers)
    assert [name for name, _ in reply.headers] == ["Content-Type", "X-Request-Id", "X-Model-Digest", "Server-Timing"]
    assert ("application/json", "test-1", answerer.digest) == tuple(headers.values())[:3]
    number = r"dur=\d+\.\d{3}"
    assert re.fullmatch(
        rf"decode;{number}, predict;{number}, render;{number}, total;{number}", headers["Server-Timing"]
    )


@pytest.mark.parametrize("shape", ["batch", "table"])
def test_rows_of_a_batch_are_answered_like_single_instances(answerer, shape):
    other = {**ADELIE, "body_mass_g": 5000, "flipper_length_mm": 220}
    batch = {"instances": [ADELIE, other]}
    table = {"instances": [list(ADELIE.values()), list(other.values())], "features": list(ADELIE)}
    found = read(ask(answerer, {"batch": batch, "table": table}[shape]))
    singles = [read(ask(answerer, row)) for row in (ADELIE, other)]
    assert {
        "predictions": [{k: v for k, v in one.items() if k != "model"} for one in singles],
        "model": singles[0]["model"],
    } == found


def test_an_unusual_value_inside_the_hard_range_is_answered_as_novel(answerer):
    found = read(ask(answerer, {**ADELIE, "body_mass_g": 9500}))
    assert (True, "Adelie" in found["probabilities"]) == (found["is_novel"], True)


REFUSALS = {
    "not JSON": ({"body": b"{"}, 400, "malformed-body", [("", "malformed")]),
    "an empty body": ({"body": b""}, 400, "malformed-body", [("", "malformed")]),
    "a key twice": ({"body": b'{"a":1,"\\u0061":1}'}, 400, "ambiguous-body", [("", "ambiguous")]),
    "NaN": ({"body": encode(ADELIE).replace(b"39.1", b"NaN")}, 400, "ambiguous-body", [("", "ambiguous")]),
    "Infinity": ({"body": encode(ADELIE).replace(b"39.1", b"-Infinity")}, 400, "ambiguous-body", [("", "ambiguous")]),
    "1e999": ({"body": encode(ADELIE).replace(b"39.1", b"1e999")}, 400, "ambiguous-body", [("", "ambiguous")]),
    "400 digits": ({"body": encode(ADELIE).replace(b"39.1", b"9" * 400)}, 400, "ambiguous-body", [("", "ambiguous")]),
    "5,000 digits": (
        {"body": encode(ADELIE).replace(b"39.1", b"9" * 5000)},
        400,
        "ambiguous-body",
        [("", "ambiguous")],
    ),
    "1 MB of digits": (
        {"body": encode(ADELIE).replace(b"39.1", b"9" * (1 << 20))},
        400,
        "ambiguous-body",
        [("", "ambiguous")],
    ),
    "a byte order mark": ({"body": b"\xef\xbb\xbf" + encode(ADELIE)}, 400, "ambiguous-body", [("", "ambiguous")]),
    "UTF-16": ({"body": json.dumps(ADELIE).encode("utf-16-le")}, 400, "ambiguous-body", [("", "ambiguous")]),
    "UTF-32": ({"body": json.dumps(ADELIE).encode("utf-32")}, 400, "ambiguous-body", [("", "ambiguous")]),
    "not UTF-8": ({"body": b'{"\xff": 1}'}, 400, "ambiguous-body", [("", "ambiguous")]),
    "a lone surrogate": ({"body": b'{"\\ud800": 1}'}, 400, "ambiguous-body", [("", "ambiguous")]),
    "NUL": ({"body": encode(ADELIE) + b"\x00"}, 400, "ambiguous-body", [("", "ambiguous")]),
    "nested too deep": ({"body": b"[" * 9 + b"]" * 9}, 400, "ambiguous-body", [("", "ambiguous")]),
    "100 brackets": ({"body": b"[" * 100}, 400, "ambiguous-body", [("", "ambiguous")]),
    "1,000 brackets": ({"body": b"[" * 1_000}, 400, "ambiguous-body", [("", "ambiguous")]),
    "100,000 brackets": ({"body": b"[" * 100_000}, 400, "ambiguous-body", [("", "ambiguous")]),
    "80,000 objects in each other": ({"body": b'{"a":' * 80_000}, 400, "ambiguous-body", [("", "ambiguous")]),
    "nested inside a field": (
        {"body": encode(ADELIE).replace(b"39.1", b"[" * 9_000)},
        400,
        "ambiguous-body",
        [("", "ambiguous")],
    ),
    "a value out of range": (
        {"body": encode({**ADELIE, "body_mass_g": 1e9})},
        400,
        "implausible-value",
        [("/body_mass_g", "range")],
    ),
    "another unit": (
        {"body": encode({**ADELIE, "body_mass_g": 3.75})},
        400,
        "implausible-value",
        [("/body_mass_g", "unit")],
    ),
    "the text NaN": (
        {"body": encode({**ADELIE, "body_mass_g": "NaN"})},
        422,
        "invalid-instance",
        [("/body_mass_g", "type")],
    ),
    "true": ({"body": encode({**ADELIE, "body_mass_g": True})}, 422, "invalid-instance", [("/body_mass_g", "type")]),
    "null": ({"body": encode({**ADELIE, "body_mass_g": None})}, 422, "invalid-instance", [("/body_mass_g", "null")]),
    "a feature missing": (
        {"body": encode({k: ADELIE[k] for k in list(ADELIE)[:3]})},
        422,
        "invalid-instance",
        [("/body_mass_g", "missing")],
    ),
    "a feature unknown": (
        {"body": encode({**ADELIE, "island": "Dream"})},
        422,
        "invalid-instance",
        [("/island", "unknown")],
    ),
    "both kinds": (
        {"body": encode({**ADELIE, "bill_depth_mm": 1e9, "body_mass_g": "x"})},
        422,
        "invalid-instance",
        [("/bill_depth_mm", "range"), ("/body_mass_g", "type")],
    ),
    "both kinds in a batch": (
        {"body": encode({"instances": [{**ADELIE, "bill_depth_mm": 1e9}, ADELIE, {**ADELIE, "x": 1}]})},
        422,
        "invalid-instance",
        [("/instances/0/bill_depth_mm", "range"), ("/instances/2/x", "unknown")],
    ),
    "a parameter unknown": ({"query": "expalin=true"}, 400, "invalid-parameter", [("", "unknown")]),
    "a parameter twice": ({"query": "explain=true&explain=true"}, 400, "invalid-parameter", [("", "ambiguous")]),
    "a parameter's value": ({"query": "on_unit=guess"}, 400, "invalid-parameter", [("", "type")]),
    "too many marks": (
        {"body": b'{"instances":[' + b"[]," * 300_000 + b"[]]}"},
        413,
        "too-many-instances",
        [("", "too_many_instances")],
    ),
    "an array of 4,000,000 numbers": (
        {"body": b'{"instances":[' + b"1," * 4_000_000 + b"1]}"},
        413,
        "body-too-large",
        [("", "body_too_large")],
    ),
    "60,000 unknown keys": (
        {"body": b"{" + b'"k":1,' * 60_000 + b'"z":1}'},
        413,
        "body-too-large",
        [("", "body_too_large")],
    ),
}


@pytest.mark.parametrize(("call", "status", "slug", "errors"), REFUSALS.values(), ids=REFUSALS.keys())
@pytest.mark.parametrize("door", ["fast", "slow"])
def test_a_refusal_has_its_status_code_and_place(answerer, slow, door, call, status, slug, errors):
    given = {"body": encode(ADELIE), "request_id": "test-1", **call}
    reply = {"fast": answerer, "slow": slow}[door].answer(Call(**given))
    found = read(reply)
    assert (status, f"urn:rookery:problem:{slug}", errors) == (reply.status, found["type"], codes(reply))
    assert (status, "test-1") == (found["status"], found["request_id"])
    assert (
        ("Content-Type", "application/problem+json"),
        ("X-Request-Id", "test-1"),
        ("X-Model-Digest", answerer.digest),
    ) == reply.headers
    assert len(reply.body) < MAX_REPLY_BYTES


HEADERS = {
    "another content type": ("content_type", "text/plain", 415),
    "a form": ("content_type", "application/x-www-form-urlencoded", 415),
    "JSON as text": ("content_type", "text/json", 415),
    "another charset": ("content_type", "application/json; charset=utf-16", 415),
    "Latin-1": ("content_type", "application/json; charset=iso-8859-1", 415),
    "an odd charset": ("content_type", 'application/json; charset="utf-8,utf-16"', 415),
    "two content types": ("content_type", "application/json,text/plain", 415),
    "Brotli": ("content_encoding", "br", 415),
    "two encodings": ("content_encoding", "identity, br", 415),
    "HTML wanted": ("accept", "text/html", 406),
    "JSON unwanted": ("accept", "application/json;q=0, text/html", 406),
    "nothing that is a type": ("accept", "json", 406),
}


@pytest.mark.parametrize(("header", "value", "status"), HEADERS.values(), ids=HEADERS.keys())
def test_a_header_that_is_not_understood_is_refused(answerer, header, value, status):
    reply = ask(answerer, ADELIE, **{header: value})
    assert (status, "application/problem+json") == (reply.status, dict(reply.headers)["Content-Type"])
    assert (status, "test-1") == (read(reply)["status"], read(reply)["request_id"])


TAKEN = {
    "a charset": ("content_type", "application/json; charset=utf-8"),
    "a charset in quotes and capitals": ("content_type", 'application/json;charset="UTF-8"'),
    "capitals": ("content_type", "Application/JSON"),
    "another parameter": ("content_type", "application/json; version=1"),
    "no encoding": ("content_encoding", "identity"),
    "no encoding, in capitals": ("content_encoding", "Identity"),
    "anything": ("accept", "*/*"),
    "JSON": ("accept", "application/json"),
    "any application": ("accept", "text/html, application/*;q=0.1"),
    "JSON in capitals": ("accept", "APPLICATION/JSON"),
}


@pytest.mark.parametrize(("header", "value"), TAKEN.values(), ids=TAKEN.keys())
def test_a_header_that_means_json_is_taken(answerer, header, value):
    assert ask(answerer, ADELIE, **{header: value}).status == 200


SECRET = "s3cr3t" * 1_700
LONG = {
    "a key": {"body": encode({**ADELIE, SECRET: 1})},
    "many keys": {"body": encode({**ADELIE, **{f"{i}{SECRET}": 1 for i in range(30)}})},
    "many keys in a batch": {"body": encode({"instances": [{f"{i}{SECRET}": 1} for i in range(30)]})},
    "keys of control characters": {"body": encode({"\x01/~" * 3_000 + str(i): 1 for i in range(30)})},
    "a key twice": {"body": b'{"%b": 1, "%b": 1}' % (SECRET.encode(), SECRET.encode())},
    "a value": {"body": encode({**ADELIE, "body_mass_g": SECRET})},
    "a column": {"body": encode({"instances": [[1]], "features": [SECRET]})},
    "beside the instances": {"body": encode({"instances": [ADELIE], SECRET: 1})},
    "not JSON": {"body": SECRET.encode()},
    "a parameter": {"query": f"{SECRET}=1"},
    "a parameter's value": {"query": f"explain={SECRET}"},
    "many parameters": {"query": "&".join("%F3%A0%80%81" * 64 for _ in range(30)), "request_id": "i" * 128},
    "a content type": {"content_type": SECRET},
    "an encoding": {"content_encoding": SECRET},
    "what is accepted": {"accept": SECRET},
    "a request id": {"request_id": SECRET, "body": b""},
}


@pytest.mark.parametrize("call", LONG.values(), ids=LONG.keys())
def test_long_input_is_not_repeated(answerer, call):
    reply = answerer.answer(Call(**{"body": encode(ADELIE), **call}))
    assert 400 <= reply.status < 500
    assert len(reply.body) <= MAX_REPLY_BYTES
    assert len(read(reply).get("errors", [])) <= 20
    # 64 characters hold the word of six ten times
    assert b"s3cr3t" * 11 not in reply.body
    assert all("s3cr3t" * 11 not in value for _, value in reply.headers)


def test_a_long_category_is_not_repeated(answerers):
    reply = ask(answerers["plots"], {**PLOT, "soil": SECRET})
    assert (reply.status, codes(reply), b"s3cr3t" in reply.body) == (400, [("/soil", "range")], False)


@pytest.mark.parametrize("query", ["", "on_error=row"])
def test_the_batch_limit_is_the_setting(small, query):
    row = list(ADELIE.values())
    for count, status in ((3, 200), (4, 413)):
        reply = ask(small, {"instances": [row] * count, "features": list(ADELIE)}, query=query)
        assert status == reply.status
    assert codes(reply) == [("", "too_many_instances")]


def test_one_byte_over_the_limit_is_refused(small):
    body = encode(ADELIE)
    assert ask(small, body + b" " * (1024 - len(body))).status == 200
    reply = ask(small, body + b" " * (1025 - len(body)))
    assert (reply.status, codes(reply)) == (413, [("", "body_too_large")])
    assert read(reply)["errors"][0]["message"] == "at most 1024 bytes are taken"


AMPLIFIED = {
    "300,000 empty rows": b'{"instances":[' + b"{}," * 300_000 + b"{}]}",
    "8 MiB of empty arrays": b"[" + b"[]," * 2_790_000 + b"[]]",
    "60,000 unknown keys": b"{" + b",".join(b'"k%d":1' % i for i in range(60_000)) + b"}",
    "unknown keys and brackets": b"{" + b",".join(b'"k%d":[]' % i for i in range(9_000)) + b"}",
}


@pytest.mark.parametrize("body", AMPLIFIED.values(), ids=AMPLIFIED.keys())
def test_amplification_is_bounded(answerer, body):
    tracemalloc.start()
    try:
        reply = ask(answerer, body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert reply.status in (413, 422)
    assert len(reply.body) < MAX_REPLY_BYTES
    assert peak < 20_000_000


@pytest.mark.parametrize("given", ["a", "A-b_c.9", "x" * 128])
def test_a_well_formed_request_id_is_kept(given):
    assert given == request_id_for(given)


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a\n", "ä", "<script>", '"', "a,b"])
def test_any_other_request_id_is_replaced_by_a_new_one(given):
    first, second = request_id_for(given), request_id_for(given)
    assert first != second
    assert re.fullmatch("[0-9a-f]{32}", first)


def test_by_row_the_good_rows_are_answered(answerer):
    body = {"instances": [{}, ADELIE, {**ADELIE, "body_mass_g": 1e9}]}
    reply = ask(answerer, body, query="on_error=row")
    first, second, third = read(reply)["predictions"]
    alone = read(ask(answerer, ADELIE))
    assert reply.status == 200
    assert {key: value for key, value in alone.items() if key != "model"} == second
    assert (first["error"]["status"], third["error"]["status"]) == (422, 400)
    assert [(e["pointer"], e["code"]) for e in third["error"]["errors"]] == [("/instances/2/body_mass_g", "range")]


@pytest.mark.parametrize("query", ["on_error=row", "on_error=row&explain=true"])
@pytest.mark.parametrize("name", ROWS)
def test_by_row_a_batch_without_a_good_row_is_answered_with_errors_alone(answerers, name, query):
    reply = ask(answerers[name], {"instances": [{}, []]}, query=query)
    assert reply.status == 200
    assert [list(row) for row in read(reply)["predictions"]] == [["error"], ["error"]]


def test_by_row_a_single_bad_instance_is_still_refused(answerer):
    assert ask(answerer, {}, query="on_error=row").status == 422


def test_a_mix_up_of_units_is_converted_when_asked(answerer):
    found = read(ask(answerer, {**ADELIE, "body_mass_g": 3.75}, query="on_unit=convert"))
    converted = found.pop("converted")
    assert converted == [{"feature": "body_mass_g", "unit": "kg", "given": 3.75, "value": 3750.0}]
    assert read(ask(answerer, ADELIE)) == found


def test_asking_to_convert_changes_nothing_about_an_ordinary_instance(answerer):
    assert ask(answerer, ADELIE).body == ask(answerer, ADELIE, query="on_unit=convert").body


def test_tree_contributions_add_up_to_the_raw_score(answerer):
    ready = answerer.require_model()
    rows = [row for row in ready.predictor.manifest.golden.rows if None not in row][:40]
    body = {"instances": rows, "features": list(ready.predictor.manifest.feature_names)}
    answers = [
        r for r in read(ask(answerer, body, query="explain=true&on_error=row"))["predictions"] if "error" not in r
    ]
    good = [
        r
        for r, a in zip(rows, read(ask(answerer, body, query="on_error=row"))["predictions"], strict=True)
        if "error" not in a
    ]
    bundle = ready.predictor.bundle
    engine = XGBoostEngine(bundle.files["model.json"], bundle.manifest.features, len(bundle.manifest.classes))
    margins = engine.margins(np.array(good, dtype=np.float32))
    assert len(good) > 20
    for answer, margin in zip(answers, margins, strict=True):
        assert margin[answer["prediction"]] == pytest.approx(sum(answer["contributions"].values()), abs=1e-4)


def test_contributions_of_the_compiled_form_add_up_to_the_raw_score(answerers):
    answerer = answerers["iris"]
    answer = read(ask(answerer, SETOSA, query="explain=true"))
    probabilities = np.array([list(answer["probabilities"].values())])
    raw = float(log_odds(probabilities, answer["prediction"])[0])
    assert [*SETOSA, "base"] == list(answer["contributions"])
    assert raw == pytest.approx(sum(answer["contributions"].values()), abs=1e-4)


def test_without_being_asked_nothing_is_explained(answerer):
    for query in ("", "explain=false"):
        assert "contributions" not in read(ask(answerer, ADELIE, query=query))


@pytest.mark.parametrize(
    "error", [RuntimeError("bill 39.1 at /work/secret"), MemoryError(), RecursionError("deep"), KeyError("x")]
)
@pytest.mark.parametrize("fast_path", [True, False])
def test_what_fails_inside_is_told_to_the_log_and_not_to_the_caller(answerer, caplog, error, fast_path):
    reply = ask(failing(answerer, error, replace(SETTINGS, fast_path=fast_path)), ADELIE)
    assert read(reply) == {
        "type": "urn:rookery:problem:internal",
        "title": "Internal error",
        "status": 500,
        "detail": "The service failed. Its operators find the cause under the request id.",
        "request_id": "test-1",
        "errors": [{"pointer": "", "code": "internal", "message": "the service failed; report the request id"}],
    }
    assert reply.status == 500
    assert [("request.failed", "test-1", error)] == [
        (r.message, vars(r)["request_id"], r.exc_info[1]) for r in caplog.records if r.exc_info
    ]


def test_refusals_are_not_logged_as_failures(answerer, caplog):
    with caplog.at_level(logging.DEBUG):
        ask(answerer, b"{")
    assert caplog.records == []


@pytest.mark.parametrize("code", ["bundle_missing", "hash_mismatch", "golden_mismatch", "load_failed"])
def test_without_a_model_the_reason_is_told(code):
    answerer = Answerer(NotReady(code, "for people"), SETTINGS)
    reply = ask(answerer, ADELIE)
    assert (503, code, [("", "no_model")]) == (reply.status, read(reply)["reason"], codes(reply))
    assert ("Retry-After", "5") in reply.headers
    assert "X-Model-Digest" not in dict(reply.headers)
    assert answerer.digest is None
    with pytest.raises(NoModel):
        answerer.require_model()


def test_a_missing_model_comes_before_any_fault_of_the_call():
    answerer = Answerer(NotReady("bundle_missing", "for people"), SETTINGS)
    assert answerer.answer(Call(b"{", query="x=1", content_type="text/plain")).status == 503


def test_contributions_that_cannot_be_computed_are_null(answerer):
    predictor = answerer.require_model().predictor
    mute = SimpleNamespace(
        manifest=predictor.manifest, bundle=predictor.bundle, answers=predictor.answers, explain=lambda *_: None
    )
    found = read(ask(Answerer(Ready(mute), SETTINGS), ADELIE, query="explain=true"))  # type: ignore[arg-type]
    assert (found["contributions"], found["label"]) == (None, "Adelie")
