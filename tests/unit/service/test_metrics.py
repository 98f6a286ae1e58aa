"""Prometheus sees what was asked, what was answered, which model answers and what the cold start took."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families

from model import baseline
from model.predictor import Predictor
from service import metrics, ways
from service.answer import Answerer
from service.app import create_app
from service.config import Settings
from service.families import CODES, all_families, outcomes
from service.loader import Attempt, NotReady, Ready, State
from service.monitor import Monitor
from service.tally import WARM_SECONDS, Tally
from service.ways import NO_ROUTE, PROTOCOLS, way_of
from tests.unit.service.calls import ADELIE, ask, request

PHASES = {"imports": 0.5, "fetch": 0.25, "total": 1.5}
PINNED = Attempt("pinned", "gs://models/b/", None, "hash_mismatch", "another file")

Samples = dict[tuple[str, ...], float]


def samples(text: str) -> Samples:
    """Return every sample by its name and labels."""
    return {
        (sample.name, *sorted(map("=".join, sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(found: Samples, name: str, *labels: str) -> Samples:
    """Return the samples of a name with these labels that are not 0."""
    return {key: value for key, value in found.items() if key[0] == name and value and set(labels) <= set(key)}


def read(tally: Tally) -> Samples:
    """Write the counters down anew: the route answers for a second with what it has."""
    return samples(metrics.exposition(tally).decode())


def scrape(app: Flask) -> Samples:
    """Ask the route."""
    return samples(request(app, "GET", "/metrics").body.decode())


class Service:
    """An application that counts."""

    def __init__(self, state: State) -> None:
        self.tally = Tally(state)
        self.answerer = Answerer(state, Settings(), Monitor([self.tally]))
        self.app = create_app(Settings(), self.answerer, self.tally)


@pytest.fixture
def service(answerer: Answerer) -> Service:
    """Penguins."""
    return Service(answerer.state)


@pytest.fixture
def plots_service(answerers: dict[str, Answerer]) -> Service:
    """Every kind of feature."""
    return Service(answerers["plots"].state)


def test_requests_are_counted_by_what_came_of_them(service):
    for body, times in ((ADELIE, 3), (b"{", 2), ({**ADELIE, "body_mass_g": "1"}, 1)):
        for _ in range(times):
            request(service.app, "POST", "/predict", body)
    for path in ("/health/live", "/nowhere", "/predict"):
        request(service.app, "GET", path)
    found = {key[1:]: value for key, value in of(scrape(service.app), "rookery_requests_total").items()}
    assert found == {
        ("protocol=rookery", f"reason={reason}", f"route={route}", f"status={status}", "warm=false"): count
        for route, status, reason, count in (
            ("/predict", "2xx", "", 3),
            ("/predict", "4xx", "malformed-body", 2),
            ("/predict", "4xx", "invalid-instance", 1),
            ("/health/live", "2xx", "", 1),
            ("none", "4xx", "not-found", 1),
            ("none", "4xx", "method-not-allowed", 1),
        )
    }  # fmt: skip


def test_the_golden_rows_of_a_rollout_are_counted_apart_and_as_no_predictions(service):
    look = f"{ways.LOOK_ID}{'0' * 32}"
    headers = {"HTTP_X_REQUEST_ID": look}
    assert request(service.app, "POST", "/predict", ADELIE, **headers).header("X-Request-Id") == look
    request(service.app, "POST", "/predict", {}, **headers)
    ask(service.answerer, ADELIE, request_id=look)
    # the control
    ask(service.answerer, ADELIE, request_id=f"a-{look}")
    found = scrape(service.app)
    routes = {(key[3], key[4]): value for key, value in of(found, "rookery_requests_total").items() if value}
    assert routes == {
        ("route=look", "status=2xx"): 2,
        ("route=look", "status=4xx"): 1,
        ("route=/predict", "status=2xx"): 1,
    }
    for name in ("rookery_predictions_total", "rookery_confidence_count", "rookery_novelty_count"):
        assert sum(of(found, name).values()) == 1
    assert not of(found, "rookery_refusals_total")


def test_a_first_refusal_is_seen_as_every_outcome_of_a_prediction_is_there_with_0(service):
    found = scrape(service.app)
    shown = {key[2:5] for key in found if key[0] == "rookery_requests_total"}
    assert shown == {
        (f"reason={reason}", "route=/predict", f"status={status}") for status, reason in outcomes()
    }  # fmt: skip


def test_a_warm_instance_says_so(service):
    ask(service.answerer, ADELIE)
    service.answerer.monitor.flush()
    service.tally._warm_at -= 2 * WARM_SECONDS
    ask(service.answerer, ADELIE)
    found = scrape(service.app)
    assert [sum(of(found, "rookery_requests_total", f"warm={is_warm}").values()) for is_warm in ("true", "false")] == [
        1, 1,
    ]  # fmt: skip
    assert of(found, "rookery_request_seconds_count", "route=/predict", "warm=true")


def test_stages_add_up_to_the_request(service):
    for _ in range(5):
        ask(service.answerer, ADELIE, wait_seconds=0.125)
    found = scrape(service.app)
    stages = of(found, "rookery_stage_seconds_sum")
    assert {key[1] for key in stages} == {"stage=wait", "stage=decode", "stage=predict", "stage=render"}
    [total] = of(found, "rookery_request_seconds_sum").values()
    assert sum(stages.values()) == pytest.approx(total)
    assert of(found, "rookery_stage_seconds_bucket", "stage=wait", "le=0.25") == {
        ("rookery_stage_seconds_bucket", "le=0.25", "stage=wait"): 5
    }
    assert not of(found, "rookery_stage_seconds_bucket", "stage=wait", "le=0.1")


@pytest.mark.parametrize("fails", [False, True], ids=["all good", "some rows fail"])
def test_what_comes_and_what_is_answered_is_counted_in_the_bins_of_the_reference(service, penguins_predictor, fails):
    random = np.random.default_rng(3)
    rows = [row for row in penguins_predictor.manifest.golden.rows if None not in row]
    chosen = [rows[index] for index in random.integers(len(rows), size=300)]
    names = penguins_predictor.manifest.feature_names
    instances = [dict(zip(names, row, strict=True)) for row in chosen]
    for one in instances[:100]:
        assert ask(service.answerer, one).status == 200
    batch = [*instances[100:280], *([{**ADELIE, "flipper_length_mm": 7.13}] * 3 if fails else [])]
    # fewer rows than before, and more
    for part in (batch, instances[280:283], instances[283:]):
        assert ask(service.answerer, {"instances": part}, query="on_error=row" if fails else "").status == 200
        service.answerer.monitor.flush()

    found = scrape(service.app)
    prediction = penguins_predictor.predict(np.array(chosen, dtype=np.float32))
    watched = baseline.build(penguins_predictor.manifest)
    expected = watched.count(np.array(chosen, dtype=np.float32), prediction.probabilities, prediction.novelty)
    counted = {key[1:]: value for key, value in found.items() if key[0] == "rookery_drift_rows_total"}
    digest = f"digest={penguins_predictor.bundle.digest}"
    assert counted == {
        (f"bin={name}", digest, f"kind={variable.kind}", f"name={variable.name}"): count
        for variable, counts in zip(watched.variables, expected, strict=True)
        for name, count in zip(variable.bins, counts, strict=True)
    }
    classes = Counter(penguins_predictor.manifest.classes[index] for index in prediction.classes)
    assert of(found, "rookery_predictions_total") == {
        ("rookery_predictions_total", f"label={label}"): count for label, count in classes.items()
    }
    for name, values in {
        "rookery_confidence": prediction.probabilities.max(axis=1),
        "rookery_novelty": prediction.novelty,
        "rookery_prediction_set_size": prediction.sets.sum(axis=1),
    }.items():
        assert found[f"{name}_sum",] == pytest.approx(values.sum())
        buckets = {float(key[1][3:]): count for key, count in found.items() if key[0] == f"{name}_bucket"}
        assert buckets == {bound: (values <= bound).sum() for bound in buckets}
    assert sum(of(found, "rookery_unit_mixups_total", "feature=flipper_length_mm").values()) == 3 * fails


@pytest.mark.parametrize(
    ("body", "query"),
    [
        ({**ADELIE, "flipper_length_mm": 7.13}, ""),
        ({**ADELIE, "flipper_length_mm": 7.13}, "on_unit=convert"),
        ({"instances": [[39.1, 18.7, 7.13, 3750]], "features": list(ADELIE)}, ""),
        ({"instances": [[39.1, 18.7, 7.13, 3750]], "features": list(ADELIE)}, "on_error=row"),
    ],
)
def test_a_unit_mixup_is_counted_by_its_feature(service, body, query):
    ask(service.answerer, body, query=query)
    assert of(scrape(service.app), "rookery_unit_mixups_total") == {
        ("rookery_unit_mixups_total", "feature=flipper_length_mm"): 1
    }


def test_refusals_are_counted_by_code_once_for_each_request(service):
    ask(service.answerer, {"bill_length_mm": "1"})
    found = of(scrape(service.app), "rookery_refusals_total")
    assert found == {("rookery_refusals_total", f"code={code}"): 1 for code in ("missing", "type")}


def test_nulls_and_lists_are_counted(plots_service):
    row = {"depth_m": 3.25, "count": 7, "ph": None, "soil": "clay"}
    assert ask(plots_service.answerer, row).status == 200
    found = of(scrape(plots_service.app), "rookery_drift_rows_total")
    assert {"name=ph", "bin=rest"} <= set(next(key for key in found if "name=ph" in key))
    assert sum(found.values()) == 4 + 3


def test_the_pinned_model_is_named(service, penguins_predictor):
    found = scrape(service.app)
    assert (found["rookery_model_ready",], found["rookery_model_fallback",]) == (1, 0)
    assert found[info(penguins_predictor, "pinned")] == 1


def info(predictor: Predictor, origin: str) -> tuple[str, ...]:
    """Return the name and labels of the sample that names the model."""
    digest = predictor.bundle.digest
    return ("rookery_model_info", f"digest={digest}", "engine=tables", "name=penguins", f"origin={origin}", "version=1")


@pytest.mark.parametrize("origin", ["last_known_good", "fallback", "baked_in"])
def test_a_fallback_is_told(penguins_predictor, origin):
    found = scrape(Service(Ready(penguins_predictor, (PINNED, Attempt(origin, "bundle", None)))).app)
    assert (found["rookery_model_fallback",], found[info(penguins_predictor, origin)]) == (1.0, 1.0)


def test_without_a_model_none_is_named_and_refusals_are_counted():
    service = Service(NotReady("hash_mismatch", "another file", (PINNED,)))
    assert ask(service.answerer, ADELIE).status == 503
    found = scrape(service.app)
    assert found["rookery_model_ready",] == 0
    assert of(found, "rookery_requests_total", "reason=no-model", "status=5xx")
    assert not [key for key in found if key[0] in ("rookery_model_info", "rookery_model_fallback")]


def test_the_cold_start_is_told_once_it_is_over(service):
    before = read(service.tally)
    service.tally.started(PHASES, 1_700_000_000.0)
    after = read(service.tally)
    assert not of(before, "rookery_cold_start_seconds")
    assert of(after, "rookery_cold_start_seconds") == {
        ("rookery_cold_start_seconds", f"phase={name}"): seconds for name, seconds in PHASES.items()
    }
    assert [found["rookery_starts_total",] for found in (before, after)] == [0, 1]


def test_requests_in_flight_are_told(service):
    service.tally.look(lambda: (5, 3))
    found = scrape(service.app)
    assert (found["rookery_in_flight",], found["rookery_waiting",]) == (5, 3)


def test_the_format_is_the_one_that_is_declared(service):
    answered = request(service.app, "GET", "/metrics")
    assert (answered.status, answered.header("Content-Type")) == (200, metrics.CONTENT_TYPE)
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds"} <= {
        key[0] for key in samples(answered.body.decode())
    }


def test_every_name_and_label_is_in_the_list(service, penguins_predictor):
    families = all_families(service.answerer.state, baseline.build(penguins_predictor.manifest))
    known = {family.name.removesuffix("_total"): set(family.labels) for family in families}
    ask(service.answerer, ADELIE)
    for family in text_string_to_metric_families(request(service.app, "GET", "/metrics").body.decode()):
        for sample in family.samples:
            allowed = known.get(family.name, set()) | ({"le"} if sample.name.endswith("_bucket") else set())
            assert family.name in known or family.name in {n.removesuffix("_total") for n in metrics.OF_PROCESSES} | {
                metrics.MEMORY_USED
            }
            assert set(sample.labels) == allowed


def test_every_route_and_code_is_in_the_list(penguins_app):
    rules = [rule.rule for rule in penguins_app.url_map.iter_rules()]
    assert [rule for rule in rules if all(way_of(rule, protocol)[0] == NO_ROUTE for protocol in PROTOCOLS)] == []
    answers = request(penguins_app, "GET", "/openapi.json").json
    described = json.dumps(answers["paths"]["/predict"]["post"]["responses"])
    assert {code for code in CODES if code not in described} <= {"rate", "overloaded"}


@pytest.mark.parametrize(
    ("route", "protocol", "expected"),
    [
        ("/predict", "rookery", ("/predict", "rookery")),
        ("/v2/models/<model>/versions/<version>/infer", "v2", ("/v2/models/{model}/infer", "v2")),
        ("/v1/models/{model}:predict", "v1", ("/v1/models/{model}:predict", "v1")),
        ("/invocations", "sagemaker", ("/invocations", "sagemaker")),
        ("/my/own/path", "vertex", ("vertex/predict", "vertex")),
        ("", "v2", ("none", "v2")),
        ("/nowhere", "nothing", ("none", "rookery")),
        ("/feedback", "v2", ("/feedback", "rookery")),
    ],
)
def test_routes_and_protocols_are_called_from_a_closed_list(route, protocol, expected):
    assert way_of(route, protocol) == expected


def test_a_fallback_is_seen_in_every_place(penguins_predictor):
    attempts = (PINNED, Attempt("baked_in", "bundle", None))
    service = Service(Ready(penguins_predictor, attempts, {"fetch": 0.25}))
    card = request(service.app, "GET", "/model")
    assert (card.header("X-Model-Fallback"), card.json["fallback"], card.json["load_seconds"]) == (
        "baked_in",
        True,
        {"fetch": 0.25},
    )
    assert card.json["attempts"] == [
        {"origin": "pinned", "uri": "gs://models/b/", "code": "hash_mismatch", "reason": "another file"},
        {"origin": "baked_in", "uri": "bundle"},
    ]
    for path, body in (("/predict", {}), ("/nowhere", b"")):
        assert request(service.app, "POST", path, body).header("X-Model-Fallback") == "baked_in"
