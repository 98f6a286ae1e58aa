"""Bodies of the largest size that are refused, one or more for each protocol and each kind of refusal."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from .hostile import ADELIE, LIMIT_BYTES, NAMES

SETTINGS = {"ROOKERY_FEEDBACK": "true", "AIP_PREDICT_ROUTE": "/vertex/predict", "AIP_HEALTH_ROUTE": "/vertex/health"}
ROUTES = {
    "predict": "/predict",
    "predict, by row": "/predict?on_error=row",
    "v1": "/v1/models/penguins:predict",
    "vertex": "/vertex/predict",
    "v2": "/v2/models/penguins/infer",
    "invocations": "/invocations",
    "feedback": "/feedback",
    "no route": "/nowhere",
    "no model": "/v1/models/nobody:predict",
}
# bodies are a little below the limit, so that nothing but what is in them is refused
SIZE = LIMIT_BYTES - 512
HEADER = ",".join(NAMES)
# so long that the largest body has nearly the most rows
ROW_BYTES = 860


@dataclass(frozen=True)
class Refused:
    """A request that is refused, and the same one without its fault.

    Attributes:
        path: of the route.
        body: as it is sent.
        headers: content type and the like.
        statuses: what it may be answered with.
        control: a body that is answered with 200 or 202 at the same path.
        control_headers: of that; None for the same.
    """

    path: str
    body: bytes
    headers: Mapping[str, str]
    statuses: frozenset[int]
    control: bytes
    control_headers: Mapping[str, str] | None = None

    @property
    def is_nowhere(self) -> bool:
        """Whether nothing that is sent there is answered with anything else."""
        return self.statuses == {404}

    @property
    def may_be_packed(self) -> bool:
        """Whether the route takes compressed bodies."""
        return self.path != ROUTES["feedback"]

    def packed(self) -> Refused:
        """Return the same request with its body compressed."""
        headers = {**self.headers, "Content-Encoding": "gzip"}
        control = gzip.compress(self.control)
        given = self.headers if self.control_headers is None else self.control_headers
        packed = {**given, "Content-Encoding": "gzip"}
        return replace(self, body=gzip.compress(self.body, 1), headers=headers, control=control, control_headers=packed)


def _filled(before: bytes, after: bytes, piece: bytes = b"a") -> bytes:
    """Return a body of the largest size with something between its ends again and again."""
    return before + piece * ((SIZE - len(before) - len(after)) // len(piece)) + after


def _row(**changed: object) -> bytes:
    return json.dumps({**ADELIE, **changed}).encode()


def _native() -> Iterator[tuple[str, bytes, int]]:
    """Yield bodies of /predict that no reading makes valid, and the status of each."""
    yield "a long text", _filled(b'{"x": "', b'"}'), 413
    yield "a long value", _filled(b'{"bill_length_mm": "', b'"}'), 413
    yield "a long key", _filled(b'{"', b'": 1}'), 413
    yield "a long text of escapes", _filled(b'{"x": "', b'"}', b"\\u0061"), 413
    yield "a long text without an end", _filled(b'{"x": "', b""), 413
    yield "texts that are long enough", _filled(b'{"x": [""', b"]}", b',"%b"' % (b"a" * ((16 << 10) - 64))), 422
    yield "a long number", _filled(b'{"x": ', b"}", b"9"), 400
    yield "space", _filled(b'{"x": ', b"1}", b" "), 422
    yield "no JSON", _filled(b'{"x": ', b"", b" "), 400
    yield "a key twice", _filled(b'{"x": 1,', b'"x": 1}', b" "), 400
    yield "NaN", _filled(b'{"x": ', b"NaN}", b" "), 400
    yield "no UTF-8", _filled(b'{"x": ', b"}", b"\xff"), 400
    yield "many rows", _filled(b'{"instances": [{}', b"]}", b",{}"), 413


def _batches() -> Iterator[tuple[str, bytes, int]]:
    """Yield batches of nearly the most rows, each row refused in its own way."""
    for name, row, status in (
        ("rows with long values", _row(body_mass_g="x" * 750), 422),
        ("rows with long keys", _row().replace(b"body_mass_g", b"x" * 800), 422),
        ("rows out of range", _row(body_mass_g=99999).ljust(ROW_BYTES), 400),
        ("rows in another unit", _row(body_mass_g=6.2).ljust(ROW_BYTES), 400),
        ("rows of nothing", b"{}".ljust(ROW_BYTES), 422),
    ):
        yield name, _filled(b'{"instances": [%b' % row, b"]}", b"," + row), status


def _tensor(**changed: object) -> dict[str, object]:
    return {"name": "instances", "shape": [1, 4], "datatype": "FP64", "data": list(ADELIE.values()), **changed}


def _raw(datatype: str, shape: list[int], raw: bytes) -> tuple[bytes, dict[str, str]]:
    """Return a body of one raw tensor and its headers."""
    tensor = {"name": "instances", "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return head + raw, headers


def requests() -> dict[str, Refused]:
    """Return every request by name."""
    as_json, as_csv = {"Content-Type": "application/json"}, {"Content-Type": "text/csv"}
    long = b"a" * (SIZE - 512)
    found: dict[str, Refused] = {}

    def add(route: str, kind: str, body: bytes, control: bytes, *statuses: int, **more: Mapping[str, str]) -> None:
        headers = more.get("headers", as_json)
        found[f"{route}: {kind}"] = Refused(
            ROUTES[route], body, headers, frozenset(statuses), control, more.get("control_headers")
        )

    for kind, body, status in (*_native(), *_batches()):
        add("predict", kind, body, _row(), status)
        if kind.startswith("rows"):
            add("predict, by row", kind, body, _row(), 200)
    for route in ("v1", "vertex"):
        control = b'{"instances": [%b]}' % _row()
        add(route, "a long text", b'{"instances": [{"x": "%b"}]}' % long, control, 413)
        add(route, "a long key", b'{"%b": []}' % long, control, 413)
        add(route, "a name of space", b'{"instances": [{"x": %b1}]}' % (b" " * len(long)), control, 400)
        for kind, body, status in _batches():
            add(route, kind, body, control, min(status, 400))
    control = json.dumps({"inputs": [_tensor()]}).encode()
    add("v2", "a long name", json.dumps({"inputs": [_tensor(name=long.decode())]}).encode(), control, 413)
    add("v2", "long elements", json.dumps({"inputs": [_tensor(data=[long.decode()])]}).encode(), control, 413)
    add("v2", "many elements", _filled(b'{"inputs": [{"data": [1', b"]}]}", b",1"), control, 413)
    text = len(long).to_bytes(4, "little") + long
    for kind, datatype, shape, raw in (
        ("a long text", "BYTES", [1, 4], text),
        ("texts of nothing", "BYTES", [(SIZE - 1024) // 16, 4], bytes(SIZE - 1024)),
        ("bytes", "UINT8", [(SIZE - 1024) // 4, 4], bytes(SIZE - 1024)),
        ("rows out of range", "FP64", [10_000, 4], bytes(10_000 * 4 * 8)),
    ):
        body, headers = _raw(datatype, shape, raw)
        add("v2", kind, body, control, 400, 413, headers=headers, control_headers=as_json)
    control = json.dumps({"dataframe_records": [ADELIE]}).encode()
    add("invocations", "a long text", b'{"dataframe_records": [{"x": "%b"}]}' % long, control, 413)
    add("invocations", "a long column", b'{"dataframe_split": {"columns": ["%b"], "data": [[1]]}}' % long, control, 413)
    add("invocations", "no shape", _filled(b'{"params": {}', b"}", b" "), control, 400)
    line = (HEADER + "\n" + ",".join(map(str, ADELIE.values())) + "\n").encode()
    for kind, body in {
        "a long cell": line + long + b",1,2,3\n",
        "a cell without an end": line + b'"' + long,
        "lines of words": _filled(line, b"", b"x" * ROW_BYTES + b",1,2,3\n"),
        "lines out of range": _filled(line, b"", b" " * ROW_BYTES + b"1,2,3,99999\n"),
        "many lines": _filled(line, b"", b"1\n"),
    }.items():
        add("invocations", f"CSV, {kind}", body, line, 400, 413, headers=as_csv)
    known = b'{"request_id": "a", "label": "Adelie"}'
    add("feedback", "a long text", b'{"request_id": "%b"}' % long, known, 413)
    add("no route", "any body", _filled(b"", b""), b"", 404)
    add("no model", "any body", _filled(b"", b""), b"", 404)
    return found


# in short: one for each of what has its own code
SHORT = (
    "predict: a long text",
    "predict: texts that are long enough",
    "predict: a long number",
    "predict: rows with long values",
    "predict, by row: rows with long keys",
    "v1: rows with long values",
    "vertex: a long text",
    "v2: a long name",
    "v2: a long text",
    "v2: texts of nothing",
    "invocations: a long column",
    "invocations: CSV, lines of words",
    "feedback: a long text",
    "no route: any body",
    "no model: any body",
)
