"""Deploying a revision without traffic on a local Cloud Run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import requests
import yaml

from scripts.deploy import revision
from scripts.deploy.__main__ import main
from scripts.deploy.release import Release
from scripts.rollout.cloudrun import Services
from scripts.rollout.platform import Conflict, Unavailable
from tests.fakes.cloudrun import CloudRun, Fault

ROOT = Path(__file__).resolve().parents[4]
TEMPLATE = yaml.safe_load((ROOT / "deploy/cloudrun/service.yaml").read_text())
DIGEST = "sha256:" + "a" * 64
MODEL = [f"--model-uri=gs://models/x/{'a' * 64}/", f"--model-digest={DIGEST}"]


def release(name: str, image: str = "registry.test/rookery:1") -> Release:
    return Release("x", name, image, "gs://b/x", DIGEST, "rookery-runtime@demo.iam.gserviceaccount.com", "demo", {})


def deploy(environment: dict[str, str], *more: str, image: str = "registry.test/rookery:1") -> int:
    return main(
        [
            "revision",
            "--project=demo",
            "--region=us-central1",
            "--service=x",
            f"--image={image}",
            "--no-smoke",
            *MODEL,
            *more,
        ],
        environment,
    )


def test_the_first_deployment_serves_and_the_second_waits(
    cloud: CloudRun, services: Services, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    environment = cloud.environment(tmp_path)

    assert deploy(environment) == 0
    (first,) = cloud.traffic("x")
    assert deploy(environment, f"--model-digest=sha256:{'b' * 64}") == 0
    said = dict(line.split("=", 1) for line in capsys.readouterr().out.splitlines()[-3:])

    assert cloud.traffic("x") == {first: 100}
    assert said["CLOUD_RUN_URL"] == cloud.url("x")
    assert said["CANDIDATE_URL"] == cloud.url("x", "candidate")
    headers = {"Authorization": "Bearer t"}
    assert requests.get(cloud.url("x"), headers=headers, timeout=5).text == first
    assert requests.get(cloud.url("x", "candidate"), headers=headers, timeout=5).text == said["REVISION"] != first
    assert requests.get(cloud.url("x"), timeout=5).status_code == 403


def test_a_script_reads_what_was_deployed(
    cloud: CloudRun, services: Services, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert deploy(cloud.environment(tmp_path), "--json") == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])

    (first,) = cloud.traffic("x")
    urls = {"cloud_run_url": cloud.url("x"), "candidate_url": cloud.url("x", "candidate")}
    assert said == {**urls, "revision": first}


def test_a_revision_that_never_gets_ready_changes_nothing(
    cloud: CloudRun, services: Services, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    revision.deploy(services, TEMPLATE, release("x-1"))

    assert deploy(cloud.environment(tmp_path), image="registry.test/broken:1") == 1
    assert "failed to start" in capsys.readouterr().err
    assert cloud.traffic("x") == {"x-1": 100}


def test_a_person_who_moves_traffic_meanwhile_wins(
    cloud: CloudRun, services: Services, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for name in ("x-1", "x-2"):
        revision.deploy(services, TEMPLATE, release(name))
    cloud.fail(Fault(status=0, before=lambda: cloud.move_traffic("x", {"x-2": 100})))

    assert deploy(cloud.environment(tmp_path)) == 3
    assert "nothing was done" in capsys.readouterr().err
    assert cloud.traffic("x") == {"x-2": 100}
    assert sorted(cloud.resources.revisions) == ["x-1", "x-2"]


def test_a_write_that_was_applied_in_spite_of_its_error_counts(cloud: CloudRun, services: Services):
    cloud.fail(Fault(500, method="POST", applies=True))

    assert revision.deploy(services, TEMPLATE, release("x-1")) == (cloud.url("x"), cloud.url("x", "candidate"), True)


def test_a_write_that_was_not_applied_does_not(cloud: CloudRun, services: Services):
    cloud.fail(Fault(503, method="POST"))

    with pytest.raises(Unavailable):
        revision.deploy(services, TEMPLATE, release("x-1"))


def test_a_version_that_moved_by_itself_is_no_conflict(cloud: CloudRun, services: Services):
    revision.deploy(services, TEMPLATE, release("x-1"))
    cloud.fail(Fault(status=0, before=lambda: cloud.resources.find("x").touch()))

    revision.deploy(services, TEMPLATE, release("x-2"))

    assert cloud.traffic("x") == {"x-1": 100}


def test_a_name_is_taken_once(services: Services, cloud: CloudRun):
    revision.deploy(services, TEMPLATE, release("x-1"))

    with pytest.raises(Conflict):
        revision.deploy(services, TEMPLATE, release("x-1", "registry.test/other"))


def test_what_is_rendered_is_what_is_deployed(capsys: pytest.CaptureFixture[str]):
    arguments = ["render", "--project=demo", "--region=us-central1", "--service=x", "--image=registry.test/rookery:1"]

    assert main([*arguments, *MODEL, "--no-sidecar"], {"PATH": ""}) == 0
    body = yaml.safe_load(capsys.readouterr().out)
    assert main([*arguments, *MODEL, "--no-sidecar", "--json"], {"PATH": ""}) == 0
    assert json.loads(capsys.readouterr().out)["spec"]["template"]["spec"] == body["spec"]["template"]["spec"]
    assert body["kind"] == "Service"
    assert body["metadata"]["name"] == "x"
    assert "traffic" not in body["spec"]


def test_without_a_project_nothing_begins(capsys: pytest.CaptureFixture[str]):
    arguments = ["render", "--region=us-central1", "--image=i", *MODEL]

    assert main(arguments, {"PATH": "/nowhere"}) == 2
    assert capsys.readouterr().err.startswith("error: no project; give --project")
