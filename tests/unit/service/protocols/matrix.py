"""Sixteen kinds of bad request through every way in: what is answered, as a table for docs/bad-input-matrix.md."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from flask import Flask

from tests.unit.service.calls import ADELIE, Answered

from .ways import VERTEX, WAYS, by_name, codes, raw_request, send

Row = dict[str, Any]
Request = tuple[bytes, dict[str, str]]

COLUMNS = {
    "/predict": "/predict",
    "OIP JSON": "OIP JSON",
    "OIP binary": "OIP binary",
    "KServe v1": "KServe v1",
    "Vertex": "Vertex",
    "MLflow": "MLflow split",
    "SageMaker CSV": "SageMaker CSV",
}
FEATURE = "bill_depth_mm"
GENTOO = {"bill_length_mm": 47.5, "bill_depth_mm": 15.0, "flipper_length_mm": 217, "body_mass_g": 5100}


class Kind(NamedTuple):
    """One kind of bad request: changes to both rows, to the second one, or to the bytes."""

    both: Callable[[Row], Row] = lambda row: row
    second: Mapping[str, Any] = {}
    whole: Callable[[str, bytes], bytes] | None = None
    rows: int = 2


def _rows(kind: Kind) -> list[Row]:
    good, bad = dict(ADELIE), {**GENTOO, **kind.second}
    return [kind.both(row) for row in [good, bad, good][: kind.rows]]


def _twice(column: str, body: bytes) -> bytes:
    """Name a feature twice."""
    if column == "OIP binary":
        # another tensor with the same name, and its bytes
        return body
    if column == "SageMaker CSV":
        return body.replace(b"bill_length_mm", FEATURE.encode(), 1)
    if column in ("MLflow", "OIP JSON"):
        return body.replace(b'"bill_length_mm"', f'"{FEATURE}"'.encode(), 1)
    return body.replace(b'"bill_length_mm"', f'"{FEATURE}"'.encode())


def _cut(column: str, body: bytes) -> bytes:
    """Cut the body off in its last row."""
    return body[: body.rstrip().rindex(b",") + 1] if column == "SageMaker CSV" else body[:-3]


def _ragged(column: str, body: bytes) -> bytes:
    """Give one row too few values, or a tensor another shape than its elements have."""
    if column == "SageMaker CSV":
        return body.rstrip().rpartition(b",")[0] + b"\n"
    value: Any = json.loads(body)
    if column == "MLflow":
        value["dataframe_split"]["data"][1].pop()
    elif column == "OIP JSON":
        value["inputs"][0]["data"].pop()
    else:
        value["instances"][1] = list(value["instances"][1].values())[:-1]
    return json.dumps(value).encode()


KINDS = {
    "a feature is missing": Kind(both=lambda row: {k: v for k, v in row.items() if k != FEATURE}),
    "a feature is unknown": Kind(both=lambda row: {**row, "wing_mm": 5.5}),
    "a feature stands twice": Kind(whole=_twice),
    "text for a number": Kind(second={FEATURE: "wide"}),
    "true for a number": Kind(second={FEATURE: True}),
    "null where a value is needed": Kind(second={FEATURE: None}),
    "NaN": Kind(second={FEATURE: float("nan")}),
    "Infinity": Kind(second={FEATURE: float("inf")}),
    "outside the hard range": Kind(second={FEATURE: 1000.0}),
    "in another unit": Kind(second={"flipper_length_mm": 8.54}),
    "a row or tensor of the wrong shape": Kind(whole=_ragged),
    "no rows": Kind(rows=0),
    "too many rows": Kind(rows=3),
    "cut off": Kind(whole=_cut),
    "not UTF-8": Kind(whole=lambda _, body: body.replace(b"bill_length", b"bill\xff_length", 1)),
    "no body": Kind(whole=lambda _, body: b""),
}
MOST_ROWS = 2


def _request(column: str, name: str, kind: Kind) -> Request:
    """Return the request of one cell."""
    rows = _rows(kind)
    if column == "OIP binary":
        return _raw(name, kind, rows)
    if not rows:
        return _empty(column)
    body, headers = WAYS[COLUMNS[column]].body(rows)
    return (body if kind.whole is None else kind.whole(column, body)), headers


def _empty(column: str) -> Request:
    if column == "SageMaker CSV":
        return ",".join(ADELIE).encode() + b"\n", {"CONTENT_TYPE": "text/csv"}
    shapes: dict[str, Any] = {
        "OIP JSON": {"inputs": [{"name": n, "shape": [0], "datatype": "FP64", "data": []} for n in ADELIE]},
        "MLflow": {"dataframe_split": {"columns": list(ADELIE), "data": []}},
    }
    return json.dumps(shapes.get(column, {"instances": []})).encode(), {"CONTENT_TYPE": "application/json"}


def _raw(name: str, kind: Kind, rows: list[Row]) -> Request:
    """Return the request of one cell in raw bytes, where a number can be no text."""
    if not rows:
        return raw_request([{"name": n, "shape": [0], "datatype": "FP64", "data": []} for n in ADELIE])
    inputs = by_name(rows)
    at = next((i for i, tensor in enumerate(inputs) if tensor["name"] == FEATURE), 0)
    if name == "text for a number":
        inputs[at].update(datatype="BYTES", data=["18.7", "wide"])
    if name == "a feature stands twice":
        inputs.append(inputs[at])
    if name == "a row or tensor of the wrong shape":
        inputs[at]["shape"] = [3]
    body, headers = raw_request(inputs)
    if name == "true for a number":
        body, headers = _with_booleans(inputs, at)
    if name in ("cut off", "not UTF-8", "no body"):
        assert kind.whole is not None
        body = kind.whole("OIP binary", body)
    return body, headers


def _with_booleans(inputs: list[Row], at: int) -> Request:
    """Return a request in which one tensor is of booleans."""
    body, headers = raw_request(inputs)
    length = int(headers["HTTP_INFERENCE_HEADER_CONTENT_LENGTH"])
    head = json.loads(body[:length])
    head["inputs"][at].update(datatype="BOOL")
    text = json.dumps(head).encode()
    return text + body[length:], {"HTTP_INFERENCE_HEADER_CONTENT_LENGTH": str(len(text))}


class Cell(NamedTuple):
    """What came of one bad request."""

    answer: Answered
    is_wrong: bool

    def __str__(self) -> str:
        """Return the cell of the table."""
        if self.answer.status == 200:
            return "200 wrong" if self.is_wrong else "200, ignored with a warning"
        return f"{self.answer.status} `{'`, `'.join(sorted(set(codes(self.answer))))}`"


def measure(app: Flask) -> dict[str, dict[str, Cell]]:
    """Send every kind of bad request every way.

    Args:
        app: takes at most two rows, and speaks Vertex AI's protocol on its route.
    """
    native = WAYS["/predict"]
    right = native.read(send(app, native, "penguins", *native.body([ADELIE, GENTOO])))
    found: dict[str, dict[str, Cell]] = {}
    for name, kind in KINDS.items():
        found[name] = {}
        for column, way in COLUMNS.items():
            body, headers = _request(column, name, kind)
            answer = send(app, WAYS[way], "penguins", body, headers)
            # right only where what is bad is said to be passed over, and is
            is_right = answer.status == 200 and answer.header("warning") and WAYS[way].read(answer) == right
            found[name][column] = Cell(answer, answer.status == 200 and not is_right)
    return found


def document(found: dict[str, dict[str, Cell]]) -> str:
    """Return docs/bad-input-matrix.md."""
    wrong = sum(cell.is_wrong for row in found.values() for cell in row.values())
    lines = [
        "<!-- generated by `make generated` from tests/unit/service/protocols/matrix.py -->",
        "# Bad requests, and what every way in answers",
        "",
        "Each row is one kind of bad request, sent with a good row beside the bad one; each cell is status and code.",
        "A protocol's own form holds the same code; the protocols know no 422: what `/predict` calls 422 is 400 there.",
        "MLflow's contract passes extra columns over: the rest is answered, and the header `Warning` names them.",
        "",
        f"Answered wrongly: {wrong} of {sum(map(len, found.values()))}.",
        "",
        "| bad request | " + " | ".join(COLUMNS) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    lines += [f"| {name} | " + " | ".join(str(cell) for cell in row.values()) + " |" for name, row in found.items()]
    return "\n".join(lines) + "\n"


__all__ = ["MOST_ROWS", "VERTEX", "document", "measure"]
