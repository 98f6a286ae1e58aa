"""What a rollout sees of a real service: its answers over HTTP, its metrics through a real Prometheus."""

from __future__ import annotations

import shutil
import subprocess
import time
import tomllib
from dataclasses import replace

import pytest
import requests

from scripts.rollout import plan
from scripts.rollout.gate import Look, judge, judge_probe
from scripts.rollout.observe import MetricsObserver
from scripts.rollout.prometheus import Prometheus
from scripts.rollout.smoke import HttpProber, golden_rows
from scripts.rollout.verdict import Verdict, together

from .servers import ROOT, reserve_port


@pytest.fixture(scope="module")
def rules():
    return plan.read(tomllib.loads((ROOT / "slo.toml").read_text()))


def prober(bundle):
    return HttpProber(golden_rows(bundle.manifest), requests.Session(), lambda: "a-token")


def test_the_right_bundle_passes_every_probe(shared, bundles, penguins, rules):
    server = shared({"MODEL_URI": str(bundles["penguins"])})
    probe = prober(penguins).probe(server.url, server.url, penguins.digest, 0.0)
    print(f"golden: {probe.replay}")
    assert together(judge_probe(probe, rules)).verdict is Verdict.HEALTHY
    assert probe.replay.rows == probe.replay.pairs == len(penguins.manifest.golden.rows)
    assert (probe.replay.differences, probe.replay.changed, probe.replay.shift) == (0, 0, 0.0)
    assert probe.commit == probe.stable_commit == server.get("/version").json()["commit"]
    assert prober(penguins).verify(server.url) == ""


def test_a_look_is_answered_and_is_no_prediction_that_counts(shared, bundles, penguins, rules):
    server = shared({"MODEL_URI": str(bundles["penguins"])})

    def predictions():
        return sum(
            float(line.split()[-1])
            for line in server.get("/metrics").body.decode().splitlines()
            if line.startswith("rookery_predictions_total{")
        )

    before = predictions()
    probe = prober(penguins).look(server.url, penguins.digest)
    assert probe.looks == (Look(8, 8, 0, True),)
    assert together(judge_probe(probe, rules)).verdict is Verdict.HEALTHY
    # the control, which is counted
    prober(penguins).synthesize(server.url, server.url, 50)
    deadline = time.monotonic() + 30
    while predictions() < before + 100 and time.monotonic() < deadline:
        pass
    assert predictions() == before + 100


def test_another_bundle_is_noticed_by_digest_and_by_its_answers(shared, bundles, penguins, iris, rules):
    server = shared({"MODEL_URI": str(bundles["penguins"])})
    identity = prober(iris).identify(server.url, iris.digest)
    assert together(judge_probe(identity, rules)).verdict is Verdict.UNHEALTHY
    probe = prober(iris).probe(server.url, server.url, iris.digest, 400.0)
    assert not probe.is_ready
    assert "does not answer a golden row" in prober(iris).verify(server.url)


def test_wrong_answers_with_status_200_are_noticed(shared, bundles, penguins, rules):
    server = shared({"MODEL_URI": str(bundles["penguins"])})
    golden = golden_rows(penguins.manifest)
    swapped = replace(golden, classes=golden.classes[::-1])
    probe = HttpProber(swapped, requests.Session(), lambda: None).probe(server.url, "", penguins.digest, 0.0)
    judgement = together(judge_probe(probe, rules))
    assert judgement.verdict is Verdict.UNHEALTHY
    assert "golden" in judgement.reason
    assert probe.replay.pairs == 0


def test_nobody_there_is_not_ready(penguins):
    with reserve_port() as reservation:
        url = f"http://127.0.0.1:{reservation.getsockname()[1]}"
        assert not prober(penguins).probe(url, url, penguins.digest, 0.0).is_ready
        assert "does not answer 200" in prober(penguins).verify(url)


CONFIG = """
global: {{scrape_interval: 500ms}}
scrape_configs:
  - job_name: rookery
    static_configs:
      - {{targets: ["127.0.0.1:{candidate}"], labels: {{revision_name: new}}}}
      - {{targets: ["127.0.0.1:{stable}"], labels: {{revision_name: old}}}}
"""


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")
def test_a_real_prometheus_shows_what_both_revisions_served(start, bundles, penguins, rules, tmp_path):
    settings = {"MODEL_URI": str(bundles["penguins"])}
    candidate, stable = start(settings), start(settings)
    for server in (candidate, stable):
        server.wait_until("/health/ready", 200)
    config = tmp_path / "prometheus.yml"
    config.write_text(CONFIG.format(candidate=candidate.port, stable=stable.port))
    reservation = reserve_port()
    port = reservation.getsockname()[1]
    reservation.close()
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path}/data"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        quick = replace(rules, window_seconds=3, metrics_delay_seconds=1)
        source = Prometheus(f"http://127.0.0.1:{port}", requests.Session())
        observer = MetricsObserver(source, quick)
        asks = prober(penguins)
        deadline = time.monotonic() + 60
        began, sent = time.time(), 0
        observation = observer.observe("new", "old", began, began, began)
        assert observation.until_seconds is None
        # predictions until there are enough of warm instances, or it takes too long
        while time.monotonic() < deadline:
            sent += asks.synthesize(candidate.url, stable.url, 50)
            candidate.predict({"bill_length_mm": "x"})
            observation = observer.observe("new", "old", began, began, time.time())
            latencies = [one.latency for one in observation.candidate if one.latency]
            if sum(one.total for one in latencies) > 100:
                break
        total = sum(one.requests for one in observation.candidate)
        print(f"{len(observation.candidate)} windows: {total} requests seen of {sent} sent")
        assert 100 < total < 1.5 * sent
        assert sum(one.refusals for one in observation.candidate) > 0
        assert sum(one.errors for one in observation.candidate) == 0
        assert set(observation.candidate[-1].labels) == set(penguins.manifest.classes)
        assert observation.candidate[-1].confidence.total > 0
        assert observation.candidate[-1].novelty.total > 0
        assert observation.is_fallback is False
        judgement = judge(observation, (), quick, 50)
        assert not any(finding.gate == "metrics" for finding in judgement.findings)
        assert judgement.verdict is not Verdict.UNHEALTHY or "refusals" in judgement.reason
        unknown = observer.observe("no-such", "old", began, began, time.time())
        assert unknown.candidate == ()
        assert judge(unknown, (), quick, 50).verdict is Verdict.INCONCLUSIVE
    finally:
        process.terminate()
        process.wait()
