"""What deploy/ holds for KServe, Vertex AI and SageMaker says what the service and the platforms' tools know."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import fields
from typing import Any

import pytest
import yaml

from service.answer import Answerer
from service.app import create_app
from service.config import Settings
from service.loader import NotReady
from tests.conftest import ROOT

KNOWN = {field.metadata["env"] for field in fields(Settings)}
SCRIPTS = {"vertex": ROOT / "deploy/vertex/upload.sh", "sagemaker": ROOT / "deploy/sagemaker/create.sh"}
needs_gcloud = pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed")


@pytest.fixture(scope="module")
def container() -> dict[str, Any]:
    """The one container of the InferenceService."""
    service = yaml.safe_load((ROOT / "deploy/kserve/inferenceservice.yaml").read_text())
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    [found] = service["spec"]["predictor"]["containers"]
    return found


def test_kserve_sets_what_the_service_reads(container):
    assert {one["name"] for one in container["env"]} <= KNOWN
    # the name by which KServe finds the container of a predictor
    assert container["name"] == "kserve-container"
    assert [port["containerPort"] for port in container["ports"]] == [Settings.port]


@pytest.mark.parametrize("probe", ["readinessProbe", "livenessProbe"])
def test_kserve_probes_what_there_is(container, probe):
    asked, app = container[probe]["httpGet"], create_app(Settings(), Answerer(NotReady("no_bundle", "x"), Settings()))
    assert asked["port"] == Settings.port
    assert app.url_map.bind("").match(asked["path"], "GET")[0].startswith("protocols.v2_")


def test_kserve_runs_it_as_hardened_as_every_other_platform(container):
    assert container["securityContext"] == {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    # the one place that it writes to
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]


@pytest.mark.parametrize("name", list(SCRIPTS))
def test_a_script_names_what_is_missing_and_calls_nothing(name):
    assert subprocess.run(["sh", "-n", SCRIPTS[name]], check=False).returncode == 0
    done = subprocess.run([SCRIPTS[name]], env={"PATH": "/nowhere:/bin"}, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert re.search(r"(PROJECT|NAME): ", done.stderr)
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", list(SCRIPTS))
def test_a_script_sets_what_the_service_reads(name):
    assert set(re.findall(r"\b(MODEL_\w+)=", SCRIPTS[name].read_text())) <= KNOWN


@needs_gcloud
def test_gcloud_knows_every_flag_of_the_upload():
    told = subprocess.run(["gcloud", "ai", "models", "upload", "--help"], capture_output=True, text=True, check=True)
    used = set(re.findall(r" (--[a-z-]+)=", SCRIPTS["vertex"].read_text()))
    assert len(used) >= 7
    assert used - set(re.findall(r"--[a-z-]+", told.stdout)) == set()
