"""Dashboards and alerts name what exists, say it in every form, and somebody knows what to do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from model import baseline
from model.predictor import Predictor
from scripts.monitoring.__main__ import main
from scripts.monitoring.files import CHANNEL, FOLDER, alerts, rendered
from scripts.rollout import pulse
from service import metrics
from service.families import SECONDS, all_families
from service.loader import Ready

ROOT = Path(__file__).resolve().parents[2]
RULES = [FOLDER / name for name in ("rookery.rules.yml", "drift.rules.yml")]
SLOW = """
histogram_quantile(0.99,
  sum by (le) (rate(rookery_request_seconds_bucket{route!~"/health/.*|/metrics|look|none", warm="true"}[5m]))
) >
"""
NAME = re.compile(r"\b(?:rookery|process)[_:][a-z_:]+\b")


def _expressions() -> dict[str, str]:
    """Return every expression of every file, by where it stands."""
    found = {}
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                found[f"{path.name} {rule.get('alert') or rule.get('record')} {rule.get('labels')}"] = rule["expr"]
    for panel in yaml.safe_load((FOLDER / "panels.yml").read_text()):
        for name, query in panel["queries"].items():
            found[f"panels.yml {panel['title']} {name}"] = query
    for path in sorted((FOLDER / "policies").glob("*.json")):
        [condition] = json.loads(path.read_text())["conditions"]
        if "conditionPrometheusQueryLanguage" in condition:
            found[path.name] = condition["conditionPrometheusQueryLanguage"]["query"]
    return found


EXPRESSIONS = _expressions()


@pytest.fixture(scope="module")
def known(penguins_predictor: Predictor) -> set[str]:
    """Every name that can be asked for: what is exported, and what is recorded."""
    names = {*metrics.OF_PROCESSES, metrics.MEMORY_USED, *pulse.METRICS}
    for family in all_families(Ready(penguins_predictor), baseline.build(penguins_predictor.manifest)):
        names |= {family.name + end for end in ("_bucket", "_sum", "_count")} if family.bounds else {family.name}
    for path in RULES:
        groups = yaml.safe_load(path.read_text())["groups"]
        names |= {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}
    return names


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_every_expression_names_metrics_that_exist(known, expression):
    named = set(NAME.findall(re.sub(r'"[^"]*"', "", expression)))
    assert named
    assert named - known == set()


def test_every_metric_but_constants_is_shown_or_watched(known):
    named = {name for expression in EXPRESSIONS.values() for name in NAME.findall(expression)}
    exported = {name for name in known if name.startswith("rookery_") and not name.endswith(("_sum", "_count"))}
    assert sorted(exported - named) == [
        "rookery_prediction_set_size_bucket",
        "rookery_stage_seconds_bucket",
        "rookery_starts_total",
    ]


def test_every_file_is_up_to_date():
    made = rendered()
    assert len(made) == 2 + len(alerts())
    assert {path.name for path in (FOLDER / "policies").iterdir()} == {f"{rule['alert']}.json" for rule in alerts()}
    assert [path.name for path, text in made.items() if path.read_text() != text] == [], "make generated"


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_every_alert_has_a_runbook_and_a_channel(rule):
    headings = re.findall(r"^#+ (.*)$", (ROOT / "DEPLOYMENT.md").read_text(), re.MULTILINE)
    policy = json.loads((FOLDER / f"policies/{rule['alert']}.json").read_text())
    assert rule["alert"] in headings
    assert rule["annotations"]["runbook"].removeprefix("DEPLOYMENT.md, section ") in headings
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert policy["notificationChannels"] == [CHANNEL]
    assert f"section {rule['alert']}" in policy["documentation"]["content"]


def test_the_latency_that_wakes_somebody_up_is_the_one_that_is_promised():
    promised = tomllib.loads((ROOT / "slo.toml").read_text())["latency"]["p99_seconds"]
    [rule] = [rule for rule in alerts() if rule["alert"] == "RookerySlow"]
    assert rule["expr"].split() == [*SLOW.split(), f"{promised:g}"]
    # between two bins a quantile is guessed
    assert promised in SECONDS
    assert f" {promised:g} s," in rule["annotations"]["summary"]
    section = (ROOT / "DEPLOYMENT.md").read_text().partition("### RookerySlow\n")[2].partition("###")[0]
    assert f" {promised:g} s " in section


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_every_expression_is_one(tmp_path):
    rules = [{"record": f"a:b{index}", "expr": text} for index, text in enumerate(EXPRESSIONS.values())]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", tmp_path / "rules.yml"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_every_alert_fires_when_it_should_and_only_then():
    case = FOLDER / "tests/rookery_test.yml"
    well, ill = yaml.safe_load(case.read_text())["tests"]
    expected = {rule["alert"] for rule in alerts()} - {"RookeryDrift"}
    assert {one["alertname"] for one in well["alert_rule_test"]} == expected
    assert {one["alertname"] for one in ill["alert_rule_test"] if one["exp_alerts"]} == expected
    done = subprocess.run(["promtool", "test", "rules", case], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_dry_run_prints_every_command_and_runs_none(capsys, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert main(["--project", "lab", "--channel", "on-call@lab.example", "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("gcloud ") and "--project=lab" in line for line in lines)
    created = [line for line in lines if " create " in line]
    assert len(created) == 2 + len(alerts())
    for rule in alerts():
        assert any(f"policies/{rule['alert']}.json" in line for line in created)


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["--project", "lab"], 2, "--channel: name who is told"),
        (["--project", "lab", "--channel", "nobody"], 2, "--channel: name who is told"),
        (["--channel", "a@b.example"], 2, "--project"),
    ],
)
def test_wrong_usage_is_told(capsys, arguments, status, text):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert (ended.value.code, text in capsys.readouterr().err) == (status, True)


def test_without_gcloud_it_says_so(capsys, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert main(["--project", "lab", "--channel", "a@b.example"]) == 1
    assert capsys.readouterr().err == "error: gcloud is not installed\n"


def test_the_sidecar_scrapes_what_there_is(penguins_predictor):
    given = yaml.safe_load((FOLDER / "run-monitoring.yml").read_text())
    [endpoint] = given["spec"]["endpoints"]
    template = yaml.safe_load((ROOT / "deploy/cloudrun/service.yaml").read_text())["spec"]["template"]["spec"]
    main, sidecar = template["containers"]
    settings = {one["name"]: one.get("value") for one in main["env"]}
    [volume] = template["volumes"]

    assert (given["kind"], endpoint["path"]) == ("RunMonitoring", "/metrics")
    # callers reach the container's port alone
    assert str(endpoint["port"]) == settings["ROOKERY_OPS_PORT"] != str(main["ports"][0]["containerPort"])
    assert sidecar["volumeMounts"] == [{"name": volume["name"], "mountPath": "/etc/rungmp/"}]
    assert volume["secret"]["items"] == [{"key": "latest", "path": "config.yaml"}]
