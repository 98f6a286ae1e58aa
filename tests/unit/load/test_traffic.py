"""What is sent, and what counts as a right answer."""

from __future__ import annotations

import json
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from load import bundles
from load.bundles import Bundle
from load.traffic import MIX, Call, Traffic


@pytest.fixture(scope="module")
def bundle(bundles: dict[str, Path]) -> Bundle:
    return read(bundles["penguins"])


def read(folder: Path) -> Bundle:
    return bundles.read(folder)


def known(bundle: Bundle, row: dict[str, float]) -> list[float]:
    return next(answer for golden, answer in bundle.golden if golden == row)


def answer(bundle: Bundle, row: dict[str, float]) -> dict[str, Any]:
    """Word an answer as the service does."""
    probabilities = known(bundle, row)
    return {
        "label": bundle.classes[probabilities.index(max(probabilities))],
        "probabilities": dict(zip(bundle.classes, probabilities, strict=True)),
        "model": {"digest": bundle.digest},
    }


def verdict(call: Call, reply: Any, status: int = 200) -> str:
    return call.check(status, json.dumps(reply).encode())


def test_right_answer_is_right_and_every_other_is_not(bundle: Bundle):
    call = Traffic(bundle, MIX).word("single")
    right = answer(bundle, json.loads(call.body))
    first, second, third = right["probabilities"].items()
    shifted = dict([(first[0], first[1] + 1e-3), (second[0], second[1] - 1e-3), third])
    other = next(name for name in bundle.classes if name != right["label"])

    assert verdict(call, right) == ""
    assert "is known" in verdict(call, {**right, "probabilities": shifted})
    assert "label" in verdict(call, {**right, "label": other})
    assert "another model" in verdict(call, {**right, "model": {"digest": "sha256:00"}})
    assert "other classes" in verdict(call, {**right, "probabilities": dict(reversed(right["probabilities"].items()))})
    assert "not what the route answers" in verdict(call, {"label": "Adelie"})
    assert verdict(call, right, 503) == "status 503"


def test_batch_is_compared_row_by_row(bundle: Bundle):
    call = Traffic(bundle, MIX).batch_of(5)
    right = [answer(bundle, row) for row in json.loads(call.body)["instances"]]
    # a row whose answer differs from its neighbour's
    mixed = [right[-1], *right[:-1]]

    assert verdict(call, {"predictions": right}) == ""
    assert "4 answers to 5 rows" in verdict(call, {"predictions": right[:4]})
    assert "known" in verdict(call, {"predictions": mixed}) or "label" in verdict(call, {"predictions": mixed})


def test_protocols_are_compared_too(bundle: Bundle):
    traffic = Traffic(bundle, MIX)
    v2, v1, mlflow = (traffic.word(kind) for kind in ("v2", "v1", "mlflow"))
    row = dict(zip([name for name, *_ in bundle.features], json.loads(v2.body)["inputs"][0]["data"], strict=True))
    right = answer(bundle, row)
    outputs = [
        {"name": "label", "data": [right["label"]]},
        {"name": "probabilities", "data": list(right["probabilities"].values())},
    ]
    rows = json.loads(v1.body)["instances"]
    split = json.loads(mlflow.body)["dataframe_split"]
    records = [dict(zip(split["columns"], values, strict=True)) for values in split["data"]]

    assert v2.path == "/v2/models/penguins/infer"
    assert verdict(v2, {"outputs": outputs}) == ""
    assert verdict(v2, {"outputs": [{**outputs[0], "data": ["Emperor"]}, outputs[1]]}) != ""
    assert verdict(v1, {"predictions": [answer(bundle, row) for row in rows]}) == ""
    assert verdict(mlflow, {"predictions": [answer(bundle, row)["label"] for row in records]}) == ""
    assert verdict(mlflow, {"predictions": ["Emperor", "Emperor"]}) != ""


def test_raw_tensors_and_tables_are_worded_as_their_clients_do(bundle: Bundle):
    traffic = Traffic(bundle, MIX)
    binary, table = traffic.word("v2 binary"), traffic.word("csv")
    length = int(binary.headers["Inference-Header-Content-Length"])
    head, raw = json.loads(binary.body[:length]), binary.body[length:]
    names, *lines = table.body.decode().splitlines()
    row = dict(zip([tensor["name"] for tensor in head["inputs"]], struct.unpack("<4d", raw), strict=True))
    right = answer(bundle, row)
    outputs = [
        {"name": "label", "data": [right["label"]]},
        {"name": "probabilities", "data": list(right["probabilities"].values())},
    ]
    records = [dict(zip(names.split(","), map(float, line.split(",")), strict=True)) for line in lines]

    assert sum(tensor["parameters"]["binary_data_size"] for tensor in head["inputs"]) == len(raw)
    assert verdict(binary, {"outputs": outputs}) == ""
    assert verdict(binary, {"outputs": [outputs[0], {**outputs[1], "data": [0.2, 0.3, 0.5]}]}) != ""
    assert table.headers == {"Content-Type": "text/csv"}
    assert verdict(table, {"predictions": [answer(bundle, record)["label"] for record in records]}) == ""
    assert verdict(table, {"predictions": ["Emperor", "Emperor"]}) != ""


def test_bad_input_must_be_refused_with_its_status(bundle: Bundle):
    traffic = Traffic(bundle, MIX)
    found = Counter[str]()
    for _ in range(60):
        call = traffic.word("bad")
        found[verdict(call, {"status": 422}, 422)] += 1
        assert verdict(call, {"prediction": 0}) != ""

    assert found[""] > 0
    assert found["bad input: status 422 where 400 is due"] > 0
    assert sum(found.values()) == found[""] + found["bad input: status 422 where 400 is due"]


def test_mix_is_kept_and_the_order_is_the_same_every_time(bundle: Bundle):
    kinds = [[traffic.next().kind for _ in range(2_000)] for traffic in (Traffic(bundle, MIX), Traffic(bundle, MIX))]
    without = Traffic(bundle, {**MIX, "v2": 0})
    shares = Counter(kinds[0])

    assert kinds[0] == kinds[1]
    assert shares.keys() == MIX.keys()
    assert {kind: count / 20 for kind, count in shares.items()} == pytest.approx(MIX, rel=0.35)
    assert "v2" not in {without.next().kind for _ in range(500)}


def test_random_rows_are_judged_by_what_every_answer_keeps(bundle: Bundle):
    card = json.loads((bundle.folder / "manifest.json").read_bytes()) | {"golden": {"count": 256}}
    call = Traffic(bundles.of(card, bundle.folder), MIX).word("single")
    right = answer(bundle, bundle.golden[0][0])

    assert verdict(call, right) == ""
    assert "add up" in verdict(call, {**right, "probabilities": dict.fromkeys(bundle.classes, 0.5)})
