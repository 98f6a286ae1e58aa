"""What is deployed to Kubernetes and Cloud Run: rendered by the real kubectl, and compared with what was chosen."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.config import Settings

ROOT = Path(__file__).resolve().parents[2]
LOAD = tomllib.loads((ROOT / "slo.toml").read_text())["load"]
CHOSEN, PODS = LOAD["deploy"], LOAD["gke"]
FOLDERS = ["deploy/gke", "deploy/gke/iris", "deploy/gke/measured"]
IMAGE = f"europe-west1-docker.pkg.dev/p/r/rookery@sha256:{'0' * 64}"

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


def rendered(folder: str) -> dict[str, Any]:
    """Return the resources by kind."""
    found = subprocess.run(["kubectl", "kustomize", folder], cwd=ROOT, capture_output=True, text=True, check=True)
    return {document["kind"]: document for document in yaml.safe_load_all(found.stdout)}


def container_of(kinds: dict[str, Any]) -> dict[str, Any]:
    return dict(kinds["Deployment"]["spec"]["template"]["spec"]["containers"][0])


@needs_kubectl
@pytest.mark.parametrize("folder", FOLDERS)
def test_everything_is_there_and_selects_the_same_pods(folder: str):
    kinds = rendered(folder)
    labels = kinds["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        kinds["Service"]["spec"]["selector"],
        kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        kinds["PodMonitoring"]["spec"]["selector"]["matchLabels"],
        kinds["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        kinds["Deployment"]["spec"]["selector"]["matchLabels"],
    ]

    assert set(kinds) == {
        "ConfigMap",
        "Deployment",
        "HorizontalPodAutoscaler",
        "Namespace",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "PodMonitoring",
        "Service",
        "ServiceAccount",
    }
    assert all(selector and selector.items() <= labels for selector in selectors)
    assert kinds["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == "rookery"
    assert kinds["ConfigMap"]["metadata"]["name"] == container_of(kinds)["envFrom"][0]["configMapRef"]["name"]
    names = {kind: document["metadata"].get("namespace") for kind, document in kinds.items() if kind != "Namespace"}
    assert set(names.values()) == {kinds["Namespace"]["metadata"]["name"]}


@needs_kubectl
@pytest.mark.parametrize("folder", FOLDERS)
def test_pods_have_what_was_chosen(folder: str):
    kinds, chosen = rendered(folder), PODS["measured"] if folder.endswith("measured") else PODS
    resources, autoscaler = container_of(kinds)["resources"], kinds["HorizontalPodAutoscaler"]["spec"]

    assert resources["requests"]["cpu"] == f"{chosen['request_cpu'] * 1000:.0f}m"
    assert resources["limits"] == {"cpu": f"{chosen['limit_cpu'] * 1000:.0f}m", "memory": f"{chosen['memory_mib']}Mi"}
    assert kinds["Deployment"]["spec"]["replicas"] == autoscaler["minReplicas"] == chosen["replicas_min"]
    assert autoscaler["maxReplicas"] == chosen["replicas_max"]
    target = autoscaler["metrics"][0]["resource"]["target"]
    assert target == {"type": "Utilization", "averageUtilization": chosen["cpu_target"] * 100}


@needs_kubectl
def test_kserve_runs_the_same_container_on_one_cpu():
    (service,) = rendered("deploy/gke/kserve").values()
    (container,) = service["spec"]["predictor"]["containers"]

    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    assert container["resources"]["limits"] == {"cpu": "1", "memory": f"{PODS['memory_mib']}Mi"}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    probes = {container[name]["httpGet"]["path"] for name in ("readinessProbe", "livenessProbe")}
    assert probes == {"/v2/health/ready", "/v2/health/live"}


@needs_kubectl
def test_pods_are_hardened_and_probed_over_http():
    kinds = rendered("deploy/gke")
    pod, container = kinds["Deployment"]["spec"]["template"]["spec"], container_of(kinds)
    probes = {name: container[name]["httpGet"]["path"] for name in container if name.endswith("Probe")}
    stop = pod["terminationGracePeriodSeconds"] - container["lifecycle"]["preStop"]["sleep"]["seconds"]

    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsNonRoot"]) == (10001, True)
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert probes == {
        "startupProbe": "/health/ready",
        "readinessProbe": "/health/ready",
        "livenessProbe": "/health/live",
    }
    # the service ends within ten seconds of SIGTERM
    assert stop > 10
    settings = {one["name"]: one["value"] for one in container["env"]} | kinds["ConfigMap"]["data"]
    assert Settings.from_env(settings).idle_seconds == 620


def test_cloud_run_has_what_was_chosen():
    spec = yaml.safe_load((ROOT / "deploy/cloudrun/service.yaml").read_text())["spec"]["template"]
    limits = [container["resources"]["limits"] for container in spec["spec"]["containers"]]
    scale = {name.rpartition("/")[2]: value for name, value in spec["metadata"]["annotations"].items()}

    assert spec["spec"]["containerConcurrency"] == CHOSEN["concurrency"]
    assert limits[0] == {"cpu": f"{CHOSEN['cpu']}", "memory": f"{CHOSEN['memory_mib']}Mi"}
    assert limits[1] == {"cpu": f"{CHOSEN['sidecar']['cpu']}", "memory": f"{CHOSEN['sidecar']['memory_mib']}Mi"}
    assert scale["minScale"] == str(CHOSEN["min_instances"])
    assert scale["maxScale"] == str(CHOSEN["max_instances"])


def test_workflows_use_only_actions_pinned_by_the_same_commit():
    uses = [
        use
        for path in (ROOT / ".github/workflows").glob("*.yml")
        for use in re.findall(r"uses: (\S+)@(\S+)", path.read_text())
    ]
    commits: dict[str, set[str]] = {}
    for action, commit in uses:
        commits.setdefault(action, set()).add(commit)

    assert len(uses) > 3
    assert [use for use in uses if not re.fullmatch(r"[0-9a-f]{40}", use[1])] == []
    assert {action: found for action, found in commits.items() if len(found) > 1} == {}


@needs_kubectl
@pytest.mark.parametrize("folder", FOLDERS)
def test_script_applies_the_pinned_image_and_keeps_the_autoscalers_number(folder: str, tmp_path: Path):
    done = deploy(tmp_path, IMAGE, folder)
    applied = {document["kind"]: document for document in yaml.safe_load_all((tmp_path / "applied").read_text())}

    assert done.returncode == 0, done.stderr
    assert container_of(applied)["image"] == IMAGE
    assert applied["Deployment"]["spec"]["replicas"] == 7
    assert applied["Namespace"]["metadata"]["name"] == ("rookery-iris" if folder.endswith("iris") else "rookery")


def test_script_refuses_an_image_that_is_not_pinned(tmp_path: Path):
    done = deploy(tmp_path, "rookery:latest", "deploy/gke")

    assert (done.returncode, done.stderr) == (2, "error: rookery:latest is not pinned by digest\n")


def deploy(folder: Path, image: str, overlay: str) -> subprocess.CompletedProcess[str]:
    """Run the script where gcloud and the cluster are stood in for, and kubectl renders only."""
    programs = {
        "gcloud": """case "$*" in
          *clusterCaCertificate*) echo Y2E= ;;
          *endpoint*) echo 192.0.2.1 ;;
          *) echo token ;;
        esac""",
        "kubectl": f"""case "$*" in
          *"get deployment"*) echo 7 ;;
          apply*) "$REAL" kustomize "$3" > {folder}/applied ;;
        esac""",
    }
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    own = {"PATH": f"{folder}:{os.environ['PATH']}", "REAL": shutil.which("kubectl") or ""}
    place = {"PROJECT": "p", "LOCATION": "europe-west1", "CLUSTER": "c"}
    return subprocess.run(
        ["scripts/deploy/gke.sh", image, overlay],
        cwd=ROOT,
        env=own | place,
        capture_output=True,
        text=True,
        check=False,
    )
