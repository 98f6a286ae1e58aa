"""The real gcloud brings dashboard, policies and channel into a made-up Cloud Monitoring, and a second time nothing."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.monitoring.__main__ import main
from scripts.monitoring.files import CHANNEL, FOLDER, alerts
from tests.fakes import gcloud_shapes
from tests.fakes.cloud_monitoring import HOST, CloudMonitoring
from tests.fakes.cloudrun import CloudRun
from tests.fakes.cloudrun_wire import Request

ROOT = Path(__file__).resolve().parents[4]
ADDRESS = "on-call@lab.example"

needs_gcloud = pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed")

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def fake() -> CloudMonitoring:
    """A Cloud Monitoring in which nothing is, and to which nothing was reported."""
    return CloudMonitoring()


@pytest.fixture
def run(fake: CloudMonitoring, tmp_path: Path) -> Iterator[Run]:
    """Run the command with the folder `files`; nothing may leave the machine."""
    with CloudRun({}) as cloud:
        cloud.hosts[HOST] = fake.answer
        environment = cloud.environment(tmp_path) | fake.environment()

        def run(*more: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "scripts.monitoring", "--project=demo", f"--channel={ADDRESS}"]
            command += [f"--folder={tmp_path / 'files'}", *more]
            return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

        yield run
        assert cloud.refused == []


def _copy(folder: Path, *policies: str) -> None:
    """Copy the dashboard and a few of the policies: each costs a start of gcloud."""
    (folder / "policies").mkdir(parents=True)
    for name in ("dashboard.json", *(f"policies/{name}.json" for name in policies)):
        shutil.copy(FOLDER / name, folder / name)


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def _written(fake: CloudMonitoring) -> list[tuple[str, str, str]]:
    """Return method, kind and display name of every write since the last call."""
    found = [(method, kind, body["displayName"]) for method, kind, body in fake.written]
    fake.written.clear()
    return found


def _only(held: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    [found] = [one for one in held.values() if one["displayName"] == name]
    return found


@needs_gcloud
def test_what_is_applied_twice_is_there_once_and_is_renewed_when_its_file_is(fake: CloudMonitoring, run: Run, tmp_path):
    files = tmp_path / "files"
    _copy(files, "RookeryNovelty", "RookerySlow")
    first = run()
    made = ["made: dashboards dashboard", "made: policies RookeryNovelty", "made: policies RookerySlow"]
    assert (first.returncode, first.stdout.splitlines()) == (0, made), first.stderr
    assert _written(fake) == [
        ("POST", "notificationChannels", "Rookery"),
        ("POST", "dashboards", "Rookery"),
        ("POST", "alertPolicies", "RookeryNovelty"),
        ("POST", "alertPolicies", "RookerySlow"),
    ]
    [channel] = fake.held["notificationChannels"].values()
    assert (channel["type"], channel["labels"]) == ("email", {"email_address": ADDRESS})
    assert CHANNEL not in json.dumps(fake.held)
    assert {tuple(one["notificationChannels"]) for one in fake.held["alertPolicies"].values()} == {(channel["name"],)}

    second = run("--json")
    assert (second.returncode, _written(fake)) == (0, []), second.stderr
    names = [("dashboards", "dashboard"), ("policies", "RookeryNovelty"), ("policies", "RookerySlow")]
    assert json.loads(second.stdout) == [{"what": "unchanged", "kind": kind, "name": name} for kind, name in names]

    # the files say something else, somebody has switched a policy off, and somebody saves the dashboard meanwhile
    _replace(files / "dashboard.json", '"Latency', '"Latencies')
    _replace(files / "policies/RookerySlow.json", '"300s"', '"600s"')
    (files / "policies/RookeryNovelty.json").unlink()
    before = _only(fake.held["alertPolicies"], "RookerySlow")
    before["enabled"] = False
    fake.before_update = lambda: _only(fake.held["dashboards"], "Rookery").update(etag="another")

    late = run()
    assert (late.returncode, late.stdout) == (1, "")
    assert "etag is not that of the current version" in late.stderr
    assert late.stderr.splitlines()[-1].startswith("error: `gcloud monitoring dashboards update ")

    again = run()
    assert (again.returncode, again.stdout.splitlines()) == (
        0,
        [
            "renewed: dashboards dashboard",
            "renewed: policies RookerySlow",
            "left, has no file any more: policies RookeryNovelty",
        ],
    ), again.stderr
    assert _written(fake)[1:] == [("PATCH", "dashboards", "Rookery"), ("PATCH", "alertPolicies", "RookerySlow")]
    after = _only(fake.held["alertPolicies"], "RookerySlow")
    [condition] = after["conditions"]
    assert condition["conditionPrometheusQueryLanguage"]["duration"] == "600s"
    # the same condition: incidents that are open stay open
    assert (condition["name"], after["enabled"]) == (before["conditions"][0]["name"], False)


def test_a_dry_run_tells_a_script_every_command(capsys):
    arguments = ["--project=demo", f"--channel={ADDRESS}", "--dry-run"]
    assert main([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines() == [shlex.join(command) for command in told]
    assert {tuple(command[-2:]) for command in told} == {("--project=demo", "--quiet")}


def test_a_failure_tells_a_script_what_was_done_before_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["--project=demo", f"--channel={ADDRESS}", "--json"]) == 1
    printed = capsys.readouterr()
    assert (json.loads(printed.out), printed.err) == ([], "error: gcloud is not installed\n")


def test_every_file_is_taken(fake: CloudMonitoring):
    channel = fake.hold_channel(ADDRESS)
    bodies = _bodies(channel)
    for kind, body in bodies:
        path = f"/v1/projects/demo/{kind}"
        reply = fake.answer(Request("POST", HOST, path, {}, path, {}, json.dumps(body).encode()))
        assert reply.status == 200, (body["displayName"], reply.body)
    assert len(bodies) == 1 + len(alerts())


@needs_gcloud
def test_every_member_of_every_file_is_known_to_google():
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    bodies = _bodies("projects/demo/notificationChannels/1")
    assert gcloud_shapes.unknown(bodies, environment) == []
    # what would be noticed
    kind, wrong = bodies[-1]
    wrong["combiner"], wrong["conditions"][0]["displayname"] = "EITHER", ""
    assert gcloud_shapes.unknown([(kind, wrong)], environment) == [
        "alertPolicies.combiner",
        "alertPolicies.conditions.displayname",
    ]


def _bodies(channel: str) -> list[tuple[str, dict[str, Any]]]:
    """Return kind and content of every file that is applied."""
    paths = [("dashboards", FOLDER / "dashboard.json")]
    paths += [("alertPolicies", path) for path in sorted((FOLDER / "policies").iterdir())]
    return [(kind, json.loads(path.read_text().replace(CHANNEL, channel))) for kind, path in paths]
