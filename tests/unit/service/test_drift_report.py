"""The route tells what this instance has seen, in the words of the bundle."""

from __future__ import annotations

import numpy as np
import pytest

from model import drift
from model.baseline import build
from service import drift_report
from service.errors import NoModel
from service.tally import Tally
from tests.unit.service.calls import ADELIE, ask, request
from tests.unit.service.test_metrics import Service


@pytest.fixture
def penguins_service(answerer) -> Service:
    return Service(answerer.state)


def test_before_the_first_row_nothing_is_judged(penguins_service, answerer):
    found = request(penguins_service.app, "GET", "/model/drift").json
    assert (found["digest"], found["rows"], found["verdict"]) == (answerer.digest, 0, "too_few")
    kinds = ["feature"] * 4 + ["label", "confidence", "novelty"]
    assert [variable["kind"] for variable in found["variables"]] == kinds
    assert {(variable["psi"], variable["shift"]) for variable in found["variables"]} == {(None, None)}


def test_the_verdict_is_the_function_s(penguins_service, penguins_predictor):
    body = {"instances": [ADELIE] * 200}
    assert ask(penguins_service.answerer, body).status == 200
    found = request(penguins_service.app, "GET", "/model/drift").json
    matrix = np.array([list(ADELIE.values())] * 200, dtype=np.float32)
    prediction, watched = penguins_predictor.predict(matrix), build(penguins_predictor.manifest)
    judged = drift.judge(watched, watched.count(matrix, prediction.probabilities, prediction.novelty))
    assert (found["rows"], found["verdict"]) == (200, judged.verdict)
    assert [(v["verdict"], v["psi"], v["rows"], v["name"]) for v in found["variables"]] == [
        (one.verdict, one.psi, one.rows, one.name) for one in judged.findings
    ]
    assert found["variables"][0]["chi_square"]["statistic"] == judged.findings[0].change.statistic


def test_bins_are_described(penguins_service, penguins_predictor):
    ask(penguins_service.answerer, ADELIE)
    feature, *_, label, confidence, _ = request(penguins_service.app, "GET", "/model/drift").json["variables"]
    lows, highs = ([bin_[name] for bin_ in feature["bins"]] for name in ("low", "high"))
    assert (lows[0], highs[-1], lows[1:]) == (None, None, highs[:-1])
    [hit] = [bin_ for bin_ in feature["bins"] if bin_["live"]]
    assert (hit["low"] <= ADELIE["bill_length_mm"] < hit["high"], hit["live"]) == (True, 1)
    assert [bin_["values"] for bin_ in label["bins"]] == [["Adelie"], ["Chinstrap"], ["Gentoo"]]
    assert sum(bin_["reference"] for bin_ in confidence["bins"]) == pytest.approx(342, abs=3)


def test_lists_and_nulls_are_described(answerers):
    plots = Service(answerers["plots"].state)
    assert ask(plots.answerer, {"depth_m": 3.25, "count": 7, "ph": None, "soil": "clay"}).status == 200
    variables = {v["name"]: v for v in request(plots.app, "GET", "/model/drift").json["variables"] if v["name"]}
    assert [(b["name"], b["live"]) for b in variables["ph"]["bins"] if b["live"]] == [("rest", 1)]
    assert (variables["ph"]["bins"][-1]["low"], variables["ph"]["bins"][-1]["values"]) == (None, None)
    assert [b["live"] for b in variables["soil"]["bins"] if b["values"] == ["clay"]] == [1]


def test_without_a_model_the_reason_is_told(unready_app):
    answered = request(unready_app, "GET", "/model/drift")
    assert (answered.status, answered.json["reason"]) == (503, "hash_mismatch")


def test_drift_that_is_not_counted_is_refused(answerer, penguins):
    tally = Tally(answerer.state)
    tally.publish()
    tally.watched = None
    with pytest.raises(NoModel):
        drift_report.report(tally, answerer.digest, penguins.manifest)
