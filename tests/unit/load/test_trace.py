"""A trace is printed as a tree, with the model's share of the time."""

from __future__ import annotations

import json

from load.trace import Traced, figures, report


def _span(
    name: str, span_id: str, parent_id: str, start_ns: int, end_ns: int, **attributes: object
) -> dict[str, object]:
    return {
        "name": name, "trace_id": "t", "span_id": span_id, "parent_id": parent_id,
        "start_ns": start_ns, "end_ns": end_ns, "attributes": attributes,
    }  # fmt: skip


def test_a_tree_and_the_share():
    spans = [
        _span("model_prediction_span", "c", "a", 1_000_000, 5_000_000, rows=1, **{"prediction.class": "Adelie"}),
        _span("decode", "b", "a", 0, 1_000_000),
        _span("POST /predict", "a", "caller", 0, 10_000_000),
    ]
    found = figures([Traced("t", 0.055)], spans)
    assert list(report(found)) == [
        "trace t, as the caller saw it 55.000 ms",
        "  POST /predict                     10.000 ms",
        "    decode                           1.000 ms",
        "    model_prediction_span            4.000 ms  prediction.class=Adelie, rows=1",
        "1 requests, medians: the model 4.000 ms, POST /predict 10.000 ms,",
        "the caller 55.000 ms: the model is 40% of the answer and 7% of the whole",
    ]
    # the same for a script
    again = json.loads(json.dumps(found))
    assert again["model_share"] == {"of_answer": 0.4, "of_whole": 0.004 / 0.055}
    assert [(one["depth"], one["name"], one["seconds"]) for one in again["median_request"]["spans"]] == [
        (1, "POST /predict", 0.01),
        (2, "decode", 0.001),
        (2, "model_prediction_span", 0.004),
    ]
