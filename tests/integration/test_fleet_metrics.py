"""A real Prometheus adds up what several instances of several workers count: exactly what their clients counted."""

from __future__ import annotations

import csv
import http.client
import json
import os
import random
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from model import baseline
from model.baseline import Baseline
from model.predictor import Predictor
from tests.conftest import Tell
from tests.unit.model import drift_rules
from tests.unit.model.drift_rules import Traffic, exposed

from . import prometheus
from .conftest import Start
from .prometheus import Prometheus
from .servers import ROOT, Server, exchange

needs_prometheus = pytest.mark.skipif(
    not prometheus.IS_INSTALLED and not os.environ.get("CI"),
    reason="prometheus is not installed (Debian: apt-get install prometheus)",
)
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None and not os.environ.get("CI"),
    reason="promtool is not installed (Debian: apt-get install prometheus)",
)

NAMES = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")
CLIENTS = 3
LEAST_REQUESTS = 60


def penguins() -> list[list[float]]:
    """Return every penguin that was measured."""
    with (ROOT / "model/data/penguins.csv").open() as file:
        rows = [[row[name] for name in NAMES] for row in csv.DictReader(file)]
    return [[float(value) for value in row] for row in rows if all(value.replace(".", "").isdigit() for value in row)]


ROWS = penguins()


class Client(threading.Thread):
    """Sends requests of every kind to one server until it is told to stop, and counts what came of them."""

    def __init__(self, server: Server, seed: int, stop: threading.Event) -> None:
        super().__init__()
        self._server, self._random, self._stop_event = server, random.Random(seed), stop
        self.outcomes: Counter[tuple[str, str, str]] = Counter()
        self.labels: Counter[str] = Counter()
        self.rows: list[list[float]] = []
        self.reset = 0
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            connection = self._server.connect()
            while sum(self.outcomes.values()) < LEAST_REQUESTS or not self._stop_event.is_set():
                connection = self._one(connection)
            connection.close()
        except BaseException as error:  # noqa: BLE001 - raised where the thread is waited for
            self.failure = error

    def _one(self, connection: http.client.HTTPConnection) -> http.client.HTTPConnection:
        """Send one request, again over a new connection if the old one was closed before its answer began."""
        path, rows, body = self._choose()
        method = "GET" if body is None else "POST"
        headers = {} if body is None else {"Content-Type": "application/json"}
        while True:
            try:
                answer = exchange(connection, method, path, body, headers)
            except (ConnectionError, http.client.RemoteDisconnected):
                self.reset += 1
                connection.close()
                connection = self._server.connect()
                continue
            break
        if answer.status == 200 and body is not None:
            self.rows += rows
            answered = answer.json()
            self.labels.update(one["label"] for one in answered.get("predictions", [answered]))
        reason = "" if answer.status == 200 else answer.json()["type"].removeprefix("urn:rookery:problem:")
        # also where it was refused for want of capacity, before anybody looked at the path
        route = path if path != "/nowhere" else "none"
        self.outcomes[route, f"{answer.status // 100}xx", reason] += 1
        if answer.headers.get("connection", "").lower() == "close":
            connection.close()
            connection = self._server.connect()
        return connection

    def _choose(self) -> tuple[str, list[list[float]], bytes | None]:
        """Return path, rows and body of a request."""
        kind = self._random.random()
        if kind < 0.05:
            return "/health/live", [], None
        if kind < 0.1:
            return "/nowhere", [], b"{}"
        if kind < 0.2:
            return "/predict", [], self._random.choice([b"{", b'{"bill_length_mm": "1"}', b"[]"])
        count = 1 if kind < 0.8 else self._random.choice([2, 40, 400])
        rows = [self._random.choice(ROWS) for _ in range(count)]
        instances = [dict(zip(NAMES, row, strict=True)) for row in rows]
        return "/predict", rows, json.dumps(instances[0] if count == 1 else {"instances": instances}).encode()


def run_clients(servers: list[Server], meanwhile: Callable[[], object]) -> list[Client]:
    """Let clients call every server while something is done."""
    stop = threading.Event()
    clients = [Client(server, seed, stop) for server in servers for seed in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        meanwhile()
    finally:
        stop.set()
    for client in clients:
        client.join()
        if client.failure is not None:
            raise client.failure
    return clients


def expected_drift(predictor: Predictor, watched: Baseline, rows: list[list[float]]) -> dict[tuple[str, ...], float]:
    """Return the rows that belong into each bin."""
    matrix = np.array(rows, dtype=np.float32)
    found = predictor.predict(matrix)
    counts = watched.count(matrix, found.probabilities, found.novelty)
    return {
        (variable.kind, variable.name, name): float(count)
        for variable, of_one in zip(watched.variables, counts, strict=True)
        for name, count in zip(variable.bins, of_one, strict=True)
    }


@needs_prometheus
def test_the_fleet_s_numbers_are_what_the_clients_counted_across_restarts(
    start: Start, bundles: dict[str, Path], penguin_predictors: dict[str, Predictor], tmp_path: Path, tell: Tell
):
    settings = {"MODEL_URI": str(bundles["penguins"]), "ROOKERY_WORKERS": "2"}
    fleet = [start(settings), start(settings)]
    for server in fleet:
        server.wait_until("/health/ready", 200)
    with prometheus.scraping([server.port for server in fleet], tmp_path) as watching:

        def replace() -> None:
            # one worker of one instance is told to end, all of the other one are replaced
            before = [set(server.workers()) for server in fleet]
            os.kill(min(before[0]), signal.SIGTERM)
            fleet[1].send_signal(signal.SIGHUP)
            fleet[0].wait_for_workers(lambda now: len(now) == 2 and len(set(now) - before[0]) == 1)
            fleet[1].wait_for_workers(lambda now: len(now) == 2 and not set(now) & before[1])

        clients = run_clients(fleet, replace)
        clients += run_clients(fleet, lambda: None)
        check(watching, clients, penguin_predictors["tables"])
        # the rules are fed: every variable has a verdict's numbers
        watching.wait_until(lambda: len(watching.query('rookery:drift_rows{window="1h"}', "kind", "name")) == 7)
    sent, reset = sum(sum(client.outcomes.values()) for client in clients), sum(client.reset for client in clients)
    tell(f"fleet: {sent} requests, {reset} sent again, as Prometheus has them")


def check(watching: Prometheus, clients: list[Client], predictor: Predictor) -> None:
    """Compare every number; polled, as workers hand over what they counted once a second."""
    outcomes = sum((client.outcomes for client in clients), Counter())
    wanted = {key: float(count) for key, count in outcomes.items()}
    routes = '{route!~"/metrics|/health/ready"}'

    def requests() -> dict[tuple[str, ...], float]:
        return watching.query(f"sum by (route, status, reason) (rookery_requests_total{routes}) > 0", *of)

    of = ("route", "status", "reason")
    seen: list[object] = []

    def are_equal() -> bool:
        seen[:] = [requests()]
        return seen[0] == wanted

    try:
        watching.wait_until(are_equal)
    except AssertionError:
        assert seen[0] == wanted
    rows = [row for client in clients for row in client.rows]
    labels = sum((client.labels for client in clients), Counter())
    assert watching.query("sum by (label) (rookery_predictions_total)", "label") == {
        (label,): float(count) for label, count in labels.items()
    }
    watched = baseline.build(predictor.manifest)
    drift = watching.query("sum by (kind, name, bin) (rookery_drift_rows_total)", "kind", "name", "bin")
    assert drift == expected_drift(predictor, watched, rows)
    for name in ("rookery_confidence", "rookery_novelty", "rookery_prediction_set_size"):
        assert watching.query(f"sum({name}_count)") == {(): float(len(rows))}
    answered = sum(count for key, count in wanted.items() if key[:2] == ("/predict", "2xx"))
    assert watching.query('sum(rookery_stage_seconds_count{stage="predict"})') == {(): answered}
    seconds = watching.query('sum(rookery_request_seconds_count{route="/predict"})')
    assert seconds == {(): sum(count for key, count in wanted.items() if key[0] == "/predict")}


@needs_promtool
@pytest.mark.parametrize(("rows", "by", "verdict"), [(100_000, 0.0, "steady"), (2_000, 0.5, "drifting")])
def test_what_a_real_server_exports_raises_the_alert_on_a_shifted_stream_alone(
    start: Start,
    bundles: dict[str, Path],
    penguin_predictors: dict[str, Predictor],
    tmp_path: Path,
    rows: int,
    by: float,
    verdict: str,
):
    seeded, known = np.random.default_rng(1400), np.array(ROWS)
    stream = known[seeded.integers(len(known), size=rows)]
    stream[:, 0] += by * known[:, 0].std()
    server = start({"MODEL_URI": str(bundles["penguins"])})
    server.wait_until("/health/ready", 200)
    with closing(server.connect()) as connection:
        for part in np.array_split(stream, max(1, rows // 10_000)):
            body = json.dumps({"instances": part.tolist(), "features": NAMES}).encode()
            answer = exchange(connection, "POST", "/predict", body, {"Content-Type": "application/json"})
            assert answer.status == 200
    text = server.get("/metrics").body.decode()
    shown = server.get("/model/drift").json()

    predictor, matrix = penguin_predictors["tables"], stream.astype(np.float32)
    found, watched = predictor.predict(matrix), baseline.build(predictor.manifest)
    counts = watched.count(matrix, found.probabilities, found.novelty)
    traffic = Traffic(predictor.bundle.digest, watched, [counts])
    result = drift_rules.run(tmp_path, [traffic], exported=list(exposed(text, "i0")))

    assert result.returncode == 0, result.stdout + result.stderr
    assert [traffic.judge(window).verdict for window in ("1h", "24h")] == [verdict, verdict]
    assert (shown["verdict"], shown["rows"]) == (verdict, rows)
