"""The HTTP contract against the real server, the same in every combination of doors and engines."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import requests

from model.predictor import Predictor

from . import oracle
from .servers import Answer, Server, receive

ADELIE = {"bill_length_mm": 39.1, "bill_depth_mm": 18.7, "flipper_length_mm": 181, "body_mass_g": 3750}
GENTOO = {"bill_length_mm": 46.1, "bill_depth_mm": 13.2, "flipper_length_mm": 211, "body_mass_g": 4500}
CHINSTRAP = {"bill_length_mm": 46.5, "bill_depth_mm": 17.9, "flipper_length_mm": 192, "body_mass_g": 3500}
IN_INCHES = {**ADELIE, "flipper_length_mm": 7.13}
NAMES = list(ADELIE)

JSON = {"Content-Type": "application/json"}
LIMIT_BYTES = 8 << 20
LIMIT_INSTANCES = 10_000

PROBLEM_MEMBERS = {"type", "title", "status", "detail", "request_id"}


def without(instance: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in instance.items() if key != name}


def matrix(*instances: Mapping[str, float]) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array([[instance[name] for name in NAMES] for instance in instances], dtype=np.float32)


def text(value: Any) -> bytes:
    return json.dumps(value).encode()


def with_number(literal: str) -> bytes:
    """A body with a number written in a way that Python would not write it."""
    return text({**ADELIE, "bill_length_mm": "@"}).replace(b'"@"', literal.encode())


def assert_refused(answer: Answer, status: int, slug: str, codes: list[tuple[str, str]]) -> None:
    """Compare everything that is the same in every refusal."""
    body = answer.json()
    assert (answer.status, answer.content_type) == (status, "application/problem+json")
    assert (body["status"], body["type"]) == (status, f"urn:rookery:problem:{slug}")
    assert answer.codes == codes
    assert set(body) - {"errors", "reason"} == PROBLEM_MEMBERS
    assert body["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["x-model-digest"].startswith("sha256:")
    assert len(answer.body) <= 16 << 10


# --- predictions


def test_one_instance_is_answered_like_the_model_answers(penguin_server: Server, penguin_predictor: Predictor) -> None:
    answer = penguin_server.predict(ADELIE)
    expected = {
        **oracle.answers(penguin_predictor, matrix(ADELIE))[0],
        "model": oracle.model_member(penguin_predictor),
    }

    assert (answer.status, answer.content_type) == (200, "application/json")
    assert answer.json() == expected
    assert answer.json()["label"] == "Adelie"


def test_members_stand_in_the_order_of_the_contract(penguin_server: Server) -> None:
    members = list(penguin_server.predict(ADELIE).json())

    assert members == ["prediction", "label", "probabilities", "prediction_set", "novelty", "is_novel", "model"]


def test_probabilities_add_up_and_the_largest_is_the_prediction(penguin_server: Server) -> None:
    rows = penguin_server.predict({"instances": [ADELIE, GENTOO, CHINSTRAP]}).json()["predictions"]

    for row in rows:
        probabilities = list(row["probabilities"].values())
        assert sum(probabilities) == pytest.approx(1, abs=1e-6)
        assert row["prediction"] == probabilities.index(max(probabilities))
        assert row["label"] in row["prediction_set"]
        assert 0 <= row["novelty"] <= 1


def test_order_of_the_keys_does_not_matter(penguin_server: Server) -> None:
    turned = dict(reversed(ADELIE.items()))

    assert penguin_server.predict(turned).body == penguin_server.predict(ADELIE).body


def test_batch_is_answered_in_order_and_without_model_in_its_rows(
    penguin_server: Server, penguin_predictor: Predictor
) -> None:
    answer = penguin_server.predict({"instances": [GENTOO, ADELIE, CHINSTRAP]})

    assert answer.status == 200
    assert answer.json() == {
        "predictions": oracle.answers(penguin_predictor, matrix(GENTOO, ADELIE, CHINSTRAP)),
        "model": oracle.model_member(penguin_predictor),
    }


def test_columns_named_once_say_the_same_as_names_in_every_row(penguin_server: Server) -> None:
    order = ["body_mass_g", "bill_depth_mm", "bill_length_mm", "flipper_length_mm"]
    table = {"instances": [[row[name] for name in order] for row in (ADELIE, GENTOO)], "features": order}

    assert penguin_server.predict(table).body == penguin_server.predict({"instances": [ADELIE, GENTOO]}).body


def test_largest_batch_is_answered(penguin_server: Server) -> None:
    table = {"instances": [list(ADELIE.values())] * LIMIT_INSTANCES, "features": NAMES}
    answer = penguin_server.predict(table)

    assert answer.status == 200
    assert len(answer.json()["predictions"]) == LIMIT_INSTANCES


def test_value_outside_the_plausible_range_is_answered_as_novel(penguin_server: Server) -> None:
    answer = penguin_server.predict({**ADELIE, "bill_length_mm": 100})

    assert (answer.status, answer.json()["is_novel"]) == (200, True)


def test_explain_adds_contributions(penguin_server: Server, penguin_predictor: Predictor) -> None:
    answer = penguin_server.predict({"instances": [ADELIE, GENTOO]}, "?explain=true")
    expected = oracle.answers(penguin_predictor, matrix(ADELIE, GENTOO), explain=True)

    assert answer.json()["predictions"] == expected
    assert list(expected[0]["contributions"]) == [*NAMES, "base"]
    assert penguin_server.get("/model").json()["contributions"] == "available"


def test_contributions_add_up_to_the_raw_score(
    penguin_server: Server, penguin_predictors: dict[str, Predictor]
) -> None:
    instances = (ADELIE, GENTOO, CHINSTRAP)
    rows = penguin_server.predict({"instances": instances}, "?explain=true").json()["predictions"]
    margins = penguin_predictors["xgboost"].engine.margins(matrix(*instances))
    expected = [float(scores[row["prediction"]]) for scores, row in zip(margins, rows, strict=True)]

    assert [sum(row["contributions"].values()) for row in rows] == pytest.approx(expected, abs=1e-4)


def test_one_bad_row_refuses_the_batch_and_is_named(penguin_server: Server) -> None:
    answer = penguin_server.predict({"instances": [ADELIE, without(ADELIE, "bill_depth_mm"), IN_INCHES]})

    codes = [("/instances/1/bill_depth_mm", "missing"), ("/instances/2/flipper_length_mm", "unit")]
    assert_refused(answer, 422, "invalid-instance", codes)


def test_on_error_row_answers_the_good_rows(penguin_server: Server, penguin_predictor: Predictor) -> None:
    bad = without(ADELIE, "bill_depth_mm")
    answer = penguin_server.predict({"instances": [bad, ADELIE, IN_INCHES, GENTOO]}, "?on_error=row")
    rows = answer.json()["predictions"]

    assert answer.status == 200
    assert [rows[1], rows[3]] == oracle.answers(penguin_predictor, matrix(ADELIE, GENTOO))
    assert [list(rows[0]), list(rows[2])] == [["error"], ["error"]]
    assert [rows[0]["error"]["status"], rows[2]["error"]["status"]] == [422, 400]
    assert rows[0]["error"]["errors"][0]["pointer"] == "/instances/0/bill_depth_mm"
    assert rows[2]["error"]["errors"][0]["suggestion"] == {"unit": "in", "value": 181.1}


def test_on_error_row_with_only_bad_rows_is_still_answered(penguin_server: Server) -> None:
    answer = penguin_server.predict({"instances": [{}, 1]}, "?on_error=row")

    assert answer.status == 200
    assert [list(row) for row in answer.json()["predictions"]] == [["error"], ["error"]]


def test_on_unit_convert_converts_and_says_so(penguin_server: Server, penguin_predictor: Predictor) -> None:
    answer = penguin_server.predict(IN_INCHES, "?on_unit=convert")
    converted = answer.json().pop("converted")

    assert answer.status == 200
    assert converted == [{"feature": "flipper_length_mm", "unit": "in", "given": 7.13, "value": 181.102}]
    expected = oracle.answers(penguin_predictor, matrix({**ADELIE, "flipper_length_mm": 181.102}))[0]
    assert {key: answer.json()[key] for key in expected} == expected


@pytest.mark.parametrize(
    "query",
    ["?explain=false", "?on_error=refuse", "?on_unit=refuse", "?explain=false&on_error=refuse&on_unit=refuse", "?"],
)
def test_default_parameters_change_nothing(penguin_server: Server, query: str) -> None:
    assert penguin_server.predict(ADELIE, query).body == penguin_server.predict(ADELIE).body


def test_path_with_a_slash_at_its_end_is_answered_without_a_redirect(penguin_server: Server) -> None:
    answer = penguin_server.request("POST", "/predict/", text(ADELIE), JSON)

    assert (answer.status, answer.body) == (200, penguin_server.predict(ADELIE).body)


def test_chunked_body_is_answered(penguin_server: Server) -> None:
    body = text(ADELIE)
    with penguin_server.open_socket() as sock:
        sock.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for part in (body[:10], body[10:]):
            sock.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        sock.sendall(b"0\r\n\r\n")
        answer = receive(sock)

    assert (answer.status, answer.body) == (200, penguin_server.predict(ADELIE).body)


# --- headers


@pytest.mark.parametrize(
    "given",
    ["a", "0123-4567", "A.b_c-D", "x" * 128],
    ids=["one character", "digits", "all kinds", "longest"],
)
@pytest.mark.parametrize("path", ["/predict", "/health/live", "/nowhere"])
def test_request_id_is_echoed_if_well_formed(penguin_server: Server, path: str, given: str) -> None:
    method, body = ("POST", text(ADELIE)) if path == "/predict" else ("GET", None)
    answer = penguin_server.request(method, path, body, {"X-Request-Id": given})

    assert answer.headers["x-request-id"] == given


@pytest.mark.parametrize(
    "given",
    ["", "x" * 129, "two words", "a;b", "a/b", "id=1", "{}", "\u00e4"],
    ids=["empty", "too long", "space", "semicolon", "slash", "equals", "braces", "umlaut"],
)
@pytest.mark.parametrize("path", ["/predict", "/health/live"])
def test_request_id_is_replaced_if_malformed(penguin_server: Server, path: str, given: str) -> None:
    method, body = ("POST", text(ADELIE)) if path == "/predict" else ("GET", None)
    answer = penguin_server.request(method, path, body, {"X-Request-Id": given})

    assert answer.headers["x-request-id"] != given
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", answer.headers["x-request-id"])


def test_requests_without_an_id_get_different_ones(penguin_server: Server) -> None:
    found = {penguin_server.predict(ADELIE).headers["x-request-id"] for _ in range(5)}

    assert len(found) == 5


def test_every_route_names_the_digest_of_the_model(penguin_server: Server, penguin_predictor: Predictor) -> None:
    paths = ["/", "/model", "/health/live", "/health/ready", "/version", "/docs", "/openapi.json", "/nowhere"]
    answers = [penguin_server.predict(ADELIE), penguin_server.predict(b""), *map(penguin_server.get, paths)]

    assert {answer.headers["x-model-digest"] for answer in answers} == {penguin_predictor.bundle.digest}


@pytest.mark.parametrize("query", ["", "?explain=true"])
def test_server_timing_has_every_part_of_a_prediction(penguin_server: Server, query: str) -> None:
    timing = penguin_server.predict(ADELIE, query).headers["server-timing"]
    parts = dict(re.fullmatch(r"(\w+);dur=(\d+\.\d+)", part).groups() for part in timing.split(", "))

    assert list(parts) == ["decode", "predict", "render", "total"]


def test_keep_alive_connection_serves_many(penguin_server: Server) -> None:
    with requests.Session() as session:
        session.trust_env = False
        found = [session.post(f"{penguin_server.url}/predict", json=ADELIE, timeout=60) for _ in range(3)]

    assert [answer.status_code for answer in found] == [200, 200, 200]
    assert len({answer.content for answer in found}) == 1


# --- refusals


def test_refusal_of_an_invalid_instance_is_the_example_of_the_contract(penguin_server: Server) -> None:
    instance = {"bill_length_mm": 39.1, "flipper_length_mm": "181", "body_mass_g": 3750}
    answer = penguin_server.predict(instance, headers={**JSON, "X-Request-Id": "example"})

    assert answer.status == 422
    assert answer.json() == {
        "type": "urn:rookery:problem:invalid-instance",
        "title": "The instance does not fit the model",
        "status": 422,
        "detail": "2 problems",
        "request_id": "example",
        "errors": [
            {"pointer": "/bill_depth_mm", "code": "missing", "message": "required: bill depth in mm"},
            {"pointer": "/flipper_length_mm", "code": "type", "message": "must be a number, not a string"},
        ],
    }


def test_refusal_of_a_unit_mix_up_is_the_example_of_the_contract(penguin_server: Server) -> None:
    answer = penguin_server.predict(IN_INCHES)

    assert_refused(answer, 400, "implausible-value", [("/flipper_length_mm", "unit")])
    assert answer.json()["errors"] == [
        {
            "pointer": "/flipper_length_mm",
            "code": "unit",
            "message": "7.13 is not a plausible flipper length in mm; in inches it would be 181.1 mm",
            "suggestion": {"unit": "in", "value": 181.1},
        }
    ]


ONE = text(ADELIE)
MALFORMED = {
    "empty": b"",
    "spaces": b"   ",
    "half": ONE[:-1],
    "word": b"hello",
    "form": b"bill_length_mm=39.1",
    "missing colon": ONE.replace(b":", b"", 1),
    "comma at the end": ONE[:-1] + b",}",
    "two values": ONE + ONE,
    "single quotes": ONE.replace(b'"', b"'"),
    "hexadecimal": with_number("0x27"),
    "leading zero": with_number("039.1"),
    "leading plus": with_number("+39.1"),
    "leading point": with_number(".5"),
    "comment": ONE + b"// done",
    "XML": b"<instance/>",
}
AMBIGUOUS = {
    "duplicate key": ONE[:-1] + b', "body_mass_g": 3750}',
    "duplicate key with an escape": ONE[:-1] + b', "body\\u005fmass_g": 3750}',
    "duplicate instances": b'{"instances": [%s], "instances": [%s]}' % (ONE, ONE),
    "duplicate key in a row": b'{"instances": [%s]}' % (ONE[:-1] + b', "body_mass_g": 3750}'),
    "NaN": with_number("NaN"),
    "Infinity": with_number("Infinity"),
    "minus Infinity": with_number("-Infinity"),
    "byte order mark": b"\xef\xbb\xbf" + ONE,
    "UTF-16": ONE.decode().encode("utf-16"),
    "UTF-16 without a mark": ONE.decode().encode("utf-16-le"),
    "UTF-32": ONE.decode().encode("utf-32"),
    "Latin-1": '{"größe": 1}'.encode("latin-1"),
    "lone surrogate": ONE[:-1] + b', "\\ud800": 1}',
    "NUL": ONE + b"\x00",
    "1e999": with_number("1e999"),
    "minus 1e999": with_number("-1e999"),
    "400 digits": with_number("9" * 400),
    "5,000 digits": with_number("9" * 5000),
    "depth 9": b"[" * 9 + b"]" * 9,
    "depth 9 in a field": with_number("[" * 8 + "]" * 8),
    "depth 1,000": b"[" * 1000,
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_not_json_is_malformed(penguin_server: Server, name: str) -> None:
    assert_refused(penguin_server.predict(MALFORMED[name]), 400, "malformed-body", [("", "malformed")])


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_can_be_read_in_two_ways_is_ambiguous(penguin_server: Server, name: str) -> None:
    assert_refused(penguin_server.predict(AMBIGUOUS[name]), 400, "ambiguous-body", [("", "ambiguous")])


DOMAIN = {
    "above": ({**ADELIE, "bill_length_mm": 200.5}, [("/bill_length_mm", "range")]),
    "below": ({**ADELIE, "body_mass_g": 1}, [("/body_mass_g", "range")]),
    "minus zero": ({**ADELIE, "body_mass_g": -0.0}, [("/body_mass_g", "range")]),
    "huge": ({**ADELIE, "body_mass_g": 1e308}, [("/body_mass_g", "range")]),
    "huge whole number": ({**ADELIE, "body_mass_g": 10**200}, [("/body_mass_g", "range")]),
    "unit": ({**ADELIE, "body_mass_g": 3.75}, [("/body_mass_g", "unit")]),
    "both": (
        {**ADELIE, "bill_length_mm": 3.91, "body_mass_g": -1},
        [("/bill_length_mm", "unit"), ("/body_mass_g", "range")],
    ),
    "row": ({"instances": [ADELIE, {**ADELIE, "body_mass_g": -1}]}, [("/instances/1/body_mass_g", "range")]),
    "table": ({"instances": [[39.1, 18.7, 181, -1]], "features": NAMES}, [("/instances/0/3", "range")]),
}


@pytest.mark.parametrize("name", DOMAIN)
def test_value_outside_the_domain_is_implausible(penguin_server: Server, name: str) -> None:
    value, codes = DOMAIN[name]

    assert_refused(penguin_server.predict(value), 400, "implausible-value", codes)


INVALID = {
    "missing": (without(ADELIE, "bill_depth_mm"), [("/bill_depth_mm", "missing")]),
    "nothing": ({}, [(f"/{name}", "missing") for name in NAMES]),
    "unknown": ({**ADELIE, "sex": "male"}, [("/sex", "unknown")]),
    "unknown with a slash": ({**ADELIE, "a/b~c": 1}, [("/a~1b~0c", "unknown")]),
    "null": ({**ADELIE, "body_mass_g": None}, [("/body_mass_g", "null")]),
    "string": ({**ADELIE, "body_mass_g": "3750"}, [("/body_mass_g", "type")]),
    "string NaN": ({**ADELIE, "body_mass_g": "NaN"}, [("/body_mass_g", "type")]),
    "true": ({**ADELIE, "body_mass_g": True}, [("/body_mass_g", "type")]),
    "array": ({**ADELIE, "body_mass_g": [3750]}, [("/body_mass_g", "type")]),
    "object": ({**ADELIE, "body_mass_g": {"g": 3750}}, [("/body_mass_g", "type")]),
    "body is an array": ([ADELIE], [("", "type")]),
    "body is a number": (39.1, [("", "type")]),
    "body is null": (None, [("", "type")]),
    "body is as deep as may be": ([[[[[[[[]]]]]]]], [("", "type")]),
    "no rows": ({"instances": []}, [("/instances", "missing")]),
    "rows are an object": ({"instances": ADELIE}, [("/instances", "type")]),
    "row is a number": ({"instances": [ADELIE, 1]}, [("/instances/1", "type")]),
    "row is an array without names": ({"instances": [list(ADELIE.values())]}, [("/instances/0", "type")]),
    "row is null": ({"instances": [None]}, [("/instances/0", "type")]),
    "unknown beside the rows": ({"instances": [ADELIE], "id": 7}, [("/id", "unknown")]),
    "short row": ({"instances": [[39.1, 18.7, 181]], "features": NAMES}, [("/instances/0", "missing")]),
    "long row": ({"instances": [[39.1, 18.7, 181, 3750, 1]], "features": NAMES}, [("/instances/0", "unknown")]),
    "named row in a table": ({"instances": [ADELIE], "features": NAMES}, [("/instances/0", "type")]),
    "type in a table": ({"instances": [[39.1, "18.7", 181, 3750]], "features": NAMES}, [("/instances/0/1", "type")]),
    "column missing": (
        {"instances": [[39.1, 18.7, 181]], "features": NAMES[:3]},
        [("/features", "missing")],
    ),
    "column unknown": (
        {"instances": [[39.1, 18.7, 181, 3750, 1]], "features": [*NAMES, "sex"]},
        [("/features/4", "unknown")],
    ),
    "columns are a string": ({"instances": [[1]], "features": "all"}, [("/features", "type")]),
    "type wins over range": (
        {**without(ADELIE, "bill_depth_mm"), "body_mass_g": -1},
        [("/bill_depth_mm", "missing"), ("/body_mass_g", "range")],
    ),
    "type in one row wins over unit in another": (
        {"instances": [IN_INCHES, {**ADELIE, "body_mass_g": None}]},
        [("/instances/0/flipper_length_mm", "unit"), ("/instances/1/body_mass_g", "null")],
    ),
}


@pytest.mark.parametrize("name", INVALID)
def test_instance_of_the_wrong_shape_is_invalid(penguin_server: Server, name: str) -> None:
    value, codes = INVALID[name]

    assert_refused(penguin_server.predict(value), 422, "invalid-instance", codes)


def test_first_20_bad_rows_are_named_and_all_are_counted(penguin_server: Server) -> None:
    answer = penguin_server.predict({"instances": [{**ADELIE, "body_mass_g": "3750"}] * 25})

    assert_refused(answer, 422, "invalid-instance", [(f"/instances/{i}/body_mass_g", "type") for i in range(20)])
    assert answer.json()["detail"] == "25 problems"


@pytest.mark.parametrize("length", [64, 65, 5000])
def test_refusal_repeats_at_most_64_characters_of_the_input(penguin_server: Server, length: int) -> None:
    answer = penguin_server.predict({**ADELIE, "k" * length: 1})

    assert_refused(answer, 422, "invalid-instance", [(answer.codes[0][0], "unknown")])
    assert max(map(len, re.findall("k+", answer.body.decode()))) <= 64


@pytest.mark.parametrize(
    ("query", "code"),
    [("?explain=yes", "type"), ("?explian=true", "unknown"), ("?explain=true&explain=true", "ambiguous")],
    ids=["unknown value", "unknown name", "twice"],
)
def test_parameter_that_is_not_understood_is_refused(penguin_server: Server, query: str, code: str) -> None:
    assert_refused(penguin_server.predict(ADELIE, query), 400, "invalid-parameter", [("", code)])


@pytest.mark.parametrize(
    "content_type",
    [
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain",
        "text/json",
        "application/json; charset=utf-16",
        "application/json; charset=latin-1",
        "application/xml",
        "nonsense",
    ],
)
def test_content_type_that_is_not_json_is_unsupported(penguin_server: Server, content_type: str) -> None:
    answer = penguin_server.predict(ADELIE, headers={"Content-Type": content_type})

    assert_refused(answer, 415, "unsupported-media-type", [])


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "identity, gzip", "nonsense"])
def test_content_encoding_is_unsupported_even_if_it_is_false(penguin_server: Server, encoding: str) -> None:
    answer = penguin_server.predict(ADELIE, headers={**JSON, "Content-Encoding": encoding})

    assert_refused(answer, 415, "unsupported-media-type", [])
    assert answer.headers["accept-encoding"] == "gzip, deflate, identity"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": ""},
        {"Content-Type": "application/json; charset=utf-8"},
        {"Content-Type": "application/json;charset=UTF-8"},
        {"Content-Type": "Application/JSON"},
        {"Accept": "application/json"},
        {"Accept": "application/*"},
        {"Accept": "text/html, */*;q=0.1"},
        {"Accept": ""},
    ],
    ids=lambda headers: ",".join(f"{k}={v}" for k, v in headers.items()) or "none",
)
def test_json_by_any_name_or_none_is_understood(penguin_server: Server, headers: dict[str, str]) -> None:
    answer = penguin_server.predict(ADELIE, headers=headers)

    assert (answer.status, answer.content_type) == (200, "application/json")


@pytest.mark.parametrize("accept", ["text/html", "application/xml, text/*", "application/json;q=0"])
def test_caller_who_accepts_no_json_is_told_so(penguin_server: Server, accept: str) -> None:
    assert_refused(penguin_server.predict(ADELIE, headers={**JSON, "Accept": accept}), 406, "not-acceptable", [])


@pytest.mark.parametrize("path", ["/nowhere", "/predict/1", "/predictions", "/health/x", "/healthz", "/docs/x", "/%00"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unknown_route_is_not_found(penguin_server: Server, method: str, path: str) -> None:
    body = ONE if method == "POST" else None

    assert_refused(penguin_server.request(method, path, body, JSON), 404, "not-found", [])


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/predict", {"POST", "OPTIONS"}),
        ("PUT", "/predict", {"POST", "OPTIONS"}),
        ("DELETE", "/predict", {"POST", "OPTIONS"}),
        ("PATCH", "/predict", {"POST", "OPTIONS"}),
        ("POST", "/model", {"GET", "HEAD", "OPTIONS"}),
        ("POST", "/health/live", {"GET", "HEAD", "OPTIONS"}),
        ("PUT", "/health/ready", {"GET", "HEAD", "OPTIONS"}),
        ("POST", "/docs", {"GET", "HEAD", "OPTIONS"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_method_names_the_right_ones(penguin_server: Server, method: str, path: str, allowed: set[str]) -> None:
    answer = penguin_server.request(method, path, b"" if method != "GET" else None)

    assert_refused(answer, 405, "method-not-allowed", [])
    assert set(answer.headers["allow"].split(", ")) == allowed


def test_no_length_means_an_empty_body(penguin_server: Server) -> None:
    answer = penguin_server.request("POST", "/predict", None, JSON)

    assert_refused(answer, 400, "malformed-body", [("", "malformed")])
    assert answer.json()["errors"][0]["message"] == "the body is empty; send a JSON object"


# --- sizes


def test_declared_length_over_the_limit_is_refused_before_the_body(penguin_server: Server) -> None:
    with penguin_server.open_socket() as sock:
        sock.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (LIMIT_BYTES + 1))
        answer = receive(sock)

    assert_refused(answer, 413, "body-too-large", [("", "body_too_large")])


def test_chunked_body_over_the_limit_is_refused_before_its_end(penguin_server: Server) -> None:
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    with penguin_server.open_socket() as sock:
        sock.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        sock.sendall(chunk * (LIMIT_BYTES // 65_536))
        sock.sendall(b"1\r\n \r\n")
        answer = receive(sock)

    assert_refused(answer, 413, "body-too-large", [("", "body_too_large")])


@pytest.mark.parametrize(
    "body",
    [
        text({"instances": [ADELIE] * (LIMIT_INSTANCES + 1)}),
        text({"instances": [list(ADELIE.values())] * (LIMIT_INSTANCES + 1), "features": NAMES}),
        text({"instances": [{}] * (LIMIT_INSTANCES + 1)}),
        text({"instances": [[]] * (10 * LIMIT_INSTANCES)}),
    ],
    ids=["named", "table", "empty", "brackets"],
)
@pytest.mark.parametrize("query", ["", "?on_error=row"])
def test_batch_over_the_limit_is_refused(penguin_server: Server, body: bytes, query: str) -> None:
    answer = penguin_server.predict(body, query)

    assert_refused(answer, 413, "too-many-instances", [("", "too_many_instances")])


@pytest.mark.parametrize(
    "body",
    [text({"instances": [1] * (LIMIT_INSTANCES + 1)}), text({**ADELIE, "tags": ["x"] * LIMIT_INSTANCES})],
    ids=["numbers", "strings"],
)
def test_more_values_than_any_valid_body_holds_are_refused(penguin_server: Server, body: bytes) -> None:
    assert_refused(penguin_server.predict(body), 413, "body-too-large", [("", "body_too_large")])


# --- the other routes


def test_live_and_ready_say_so(penguin_server: Server, penguin_predictor: Predictor) -> None:
    live, ready = penguin_server.get("/health/live"), penguin_server.get("/health/ready")

    assert (live.status, live.content_type, live.json()) == (200, "application/json", {"status": "live"})
    assert (ready.status, ready.json()) == (200, {"status": "ready", "digest": penguin_predictor.bundle.digest})


def test_model_card_is_the_manifest_without_the_golden_rows(
    penguin_server: Server, penguin_predictor: Predictor
) -> None:
    card = penguin_server.get("/model").json()
    manifest = penguin_predictor.manifest

    assert card["name"] == "penguins"
    assert card["classes"] == ["Adelie", "Chinstrap", "Gentoo"]
    assert [feature["name"] for feature in card["features"]] == NAMES
    assert card["features"][2]["unit"] == "mm"
    assert card["golden"] == {"count": len(manifest.golden.rows), "leaf_share": manifest.golden.leaf_share}
    assert card["digest"] == penguin_predictor.bundle.digest
    assert (card["engine"], card["fallback"]) == (penguin_predictor.engine.name, False)


def test_version_says_what_runs(penguin_server: Server, penguin_predictor: Predictor) -> None:
    shown = penguin_server.get("/version").json()

    assert set(shown) == {"commit", "build_time", "digest", "libraries"}
    assert shown["digest"] == penguin_predictor.bundle.digest
    assert {"python", "flask", "gunicorn", "numpy", "onnxruntime", "marshmallow"} <= set(shown["libraries"])


def test_docs_refer_to_no_other_host(penguin_server: Server) -> None:
    page = penguin_server.get("/docs")
    html = page.body.decode()
    linked = re.findall(r"""(?:src|href)\s*=\s*["']([^"']+)""", html)

    assert (page.status, page.content_type) == (200, "text/html; charset=utf-8")
    assert re.findall(r"(?:https?:)?//[\w.]", html) == []
    assert [penguin_server.get(link).status for link in linked] == [200] * len(linked)
    assert len(linked) >= 4
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert re.findall(r"https?:", page.headers["content-security-policy"]) == []


def test_openapi_knows_the_features_their_units_and_every_error(
    penguin_server: Server, penguin_predictor: Predictor
) -> None:
    answer = penguin_server.get("/openapi.json")
    document = answer.json()
    operation = document["paths"]["/predict"]["post"]
    instance = document["components"]["schemas"]["Instance"]

    assert (answer.status, answer.content_type) == (200, "application/json")
    assert document["openapi"].startswith("3.1")
    assert set(operation["responses"]) >= {"200", "400", "405", "406", "413", "415", "422", "500", "503"}
    assert instance["required"] == sorted(NAMES) or instance["required"] == NAMES
    assert {name: found.get("x-unit") for name, found in instance["properties"].items()} == {
        "bill_length_mm": "mm",
        "bill_depth_mm": "mm",
        "flipper_length_mm": "mm",
        "body_mass_g": "g",
    }
    bounds = {name: (found["minimum"], found["maximum"]) for name, found in instance["properties"].items()}
    assert bounds == {feature.name: feature.hard for feature in penguin_predictor.manifest.features}


def test_examples_of_openapi_are_answered(penguin_server: Server) -> None:
    document = penguin_server.get("/openapi.json").json()
    content = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    examples = [example["value"] for example in content["examples"].values()]

    assert [penguin_server.predict(example).status for example in examples] == [200] * len(examples)
    assert len(examples) >= 3


@pytest.mark.parametrize("path", ["/model", "/health/live", "/health/ready", "/version", "/docs", "/openapi.json"])
def test_head_is_get_without_the_body(penguin_server: Server, path: str) -> None:
    head, get = penguin_server.request("HEAD", path), penguin_server.get(path)

    assert (head.status, head.content_type, head.body) == (200, get.content_type, b"")
