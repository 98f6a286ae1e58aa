"""Every way into the service, each as a translation of the same rows, and what each answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from flask import Flask

from tests.unit.service.calls import Answered, request

VERTEX = "/v1/endpoints/1:predict"
KINDS = {float: "FP64", int: "INT64", str: "BYTES"}
CODE = re.compile(r"(?:^|; |: )/\S* ([a-z_]+): ")


class Way(NamedTuple):
    """One way in.

    Attributes:
        path: `{}` is the model's name.
        body: instances → body and headers of the environ.
        read: an answer → the probabilities of each row.
    """

    path: str
    body: Callable[[Sequence[dict[str, Any]]], tuple[bytes, dict[str, str]]]
    read: Callable[[Answered], list[list[float]]]


def _json(value: object) -> tuple[bytes, dict[str, str]]:
    return json.dumps(value).encode(), {"CONTENT_TYPE": "application/json"}


def _predictions(answer: Answered) -> list[list[float]]:
    return [list(one["probabilities"].values()) for one in answer.json["predictions"]]


def tensors(answer: Answered) -> list[list[float]]:
    """Return the probabilities of an answer in tensors, in JSON or raw."""
    length = answer.header("inference-header-content-length")
    head, at = (json.loads(answer.body[: int(length)]), int(length)) if length else (answer.json, 0)
    for output in head["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size", 0)
        if output["name"] == "probabilities":
            raw = np.frombuffer(answer.body[at : at + size], "<f8") if size else np.array(output["data"])
            return raw.reshape(output["shape"]).tolist()
        at += size
    raise AssertionError("no probabilities")


def by_name(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a tensor for each feature, the last first."""
    found = []
    for name in reversed(list(rows[0])):
        values = [row[name] for row in rows]
        kind = next((KINDS[type(v)] for v in values if v is not None), "FP64")
        kind = "FP64" if float in set(map(type, values)) else kind
        found.append({"name": name, "shape": [len(rows)], "datatype": kind, "data": values})
    return found


def raw_request(inputs: list[dict[str, Any]], **members: Any) -> tuple[bytes, dict[str, str]]:
    """Return a request with every tensor in raw bytes."""
    heads, raws = [], []
    for tensor in inputs:
        if tensor["datatype"] == "BYTES":
            raw = b"".join(len(t.encode()).to_bytes(4, "little") + t.encode() for t in tensor["data"])
        else:
            kind = {"FP64": "<f8", "FP32": "<f4", "INT64": "<i8"}[tensor["datatype"]]
            raw = np.array([np.nan if v is None else v for v in tensor["data"]], kind).tobytes()
        raws.append(raw)
        named = {key: tensor[key] for key in ("name", "shape", "datatype")}
        heads.append({**named, "parameters": {"binary_data_size": len(raw)}})
    head = json.dumps({"inputs": heads, **members}).encode()
    return head + b"".join(raws), {"HTTP_INFERENCE_HEADER_CONTENT_LENGTH": str(len(head))}


def csv_lines(rows: Sequence[dict[str, Any]], *, header: bool = True) -> tuple[bytes, dict[str, str]]:
    """Return rows as CSV."""

    def cell(value: Any) -> str:
        text = "" if value is None else str(value)
        return '"' + text.replace('"', '""') + '"' if set(text) & set('",\n') else text

    names = list(reversed(rows[0])) if header else list(rows[0])
    lines = [names] if header else []
    lines += [[cell(row[name]) for name in names] for row in rows]
    return ("\n".join(",".join(line) for line in lines) + "\n").encode(), {"CONTENT_TYPE": "text/csv"}


def table(rows: Sequence[dict[str, Any]]) -> tuple[bytes, dict[str, str]]:
    """Return rows as MLflow's client sends a data frame: NaN for null, an index, columns in another order."""
    names = list(reversed(rows[0]))
    data = [[float("nan") if row[name] is None else row[name] for name in names] for row in rows]
    return _json({"dataframe_split": {"columns": names, "data": data, "index": list(range(len(rows)))}})


INFER = "/v2/models/{}/infer"
PREDICT = "/v1/models/{}:predict"
WAYS = {
    "/predict": Way("/predict", lambda rows: _json({"instances": rows}), _predictions),
    "OIP JSON": Way(INFER, lambda rows: _json({"inputs": by_name(rows)}), tensors),
    "OIP binary": Way(INFER, lambda rows: raw_request(by_name(rows), parameters={"binary_data_output": True}), tensors),
    "KServe v1": Way(PREDICT, lambda rows: _json({"instances": rows}), _predictions),
    "KServe v1, arrays": Way(
        PREDICT, lambda rows: _json({"instances": [list(r.values()) for r in rows]}), _predictions
    ),
    "Vertex": Way(VERTEX, lambda rows: _json({"instances": rows, "parameters": {"a": 1}}), _predictions),
    "MLflow split": Way("/invocations", table, _predictions),
    "MLflow records": Way("/invocations", lambda rows: _json({"dataframe_records": rows}), _predictions),
    "MLflow inputs": Way(
        "/invocations", lambda rows: _json({"inputs": {n: [r[n] for r in rows] for n in rows[0]}}), _predictions
    ),
    "SageMaker CSV": Way("/invocations", csv_lines, _predictions),
    "SageMaker CSV, no names": Way("/invocations", lambda rows: csv_lines(rows, header=False), _predictions),
}


def send(app: Flask, way: Way, name: str, body: bytes, headers: dict[str, str]) -> Answered:
    """Send a body one way."""
    return request(app, "POST", way.path.format(name), body, **headers)


def codes(answer: Answered) -> list[str]:
    """Return the codes of a refusal, whatever its form."""
    found = answer.json
    if "errors" in found:
        return [error["code"] for error in found["errors"]]
    return CODE.findall(found["error"] if "error" in found else found["message"])
