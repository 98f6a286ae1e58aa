"""The container with exactly what deploy/gke gives a pod: its limits, its user, its environment, its probes."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from load import preflight
from load.bundles import Bundle
from load.traffic import MIX, Traffic
from tests.conftest import Tell
from tests.integration.servers import HOST, ROOT, exchange, reserve_port

from . import containers
from .containers import Container, Context, Image

pytestmark = pytest.mark.timeout(1200)

NAME = "rookery-test-pod"
CALLS = 2_000
MIB = {"Mi": 1 << 20, "Gi": 1 << 30}


@dataclass(frozen=True)
class Pod:
    """What kubectl renders of the Deployment."""

    spec: dict[str, Any]
    environment: dict[str, str]

    @property
    def container(self) -> dict[str, Any]:
        """Its only container."""
        (found,) = self.spec["containers"]
        return dict(found)

    @property
    def cpus(self) -> float:
        """The limit, as `500m`."""
        return int(self.container["resources"]["limits"]["cpu"].removesuffix("m")) / 1000

    @property
    def memory_bytes(self) -> int:
        """The limit."""
        return size_of(self.container["resources"]["limits"]["memory"])

    def options(self) -> Iterator[str]:
        """Yield what an engine is told so that it runs the container as a kubelet would."""
        own, pod = self.container["securityContext"], self.spec["securityContext"]
        yield from (
            "--cpus",
            str(self.cpus),
            "--memory",
            str(self.memory_bytes),
            "--memory-swap",
            str(self.memory_bytes),
        )
        yield from ("--user", f"{pod['runAsUser']}:{pod['runAsGroup']}")
        yield from (f"--cap-drop={name}" for name in own["capabilities"]["drop"])
        if own["readOnlyRootFilesystem"]:
            yield "--read-only"
        if not own["allowPrivilegeEscalation"]:
            yield "--security-opt=no-new-privileges"
        volumes = {volume["name"]: volume["emptyDir"] for volume in self.spec["volumes"]}
        for mount in self.container["volumeMounts"]:
            size = size_of(volumes[mount["name"]]["sizeLimit"])
            yield f"--tmpfs={mount['mountPath']}:rw,nosuid,nodev,size={size}"
        for name, value in self.environment.items():
            yield from ("--env", f"{name}={value}")


def size_of(text: str) -> int:
    """Read a quantity of memory."""
    return int(text[:-2]) * MIB[text[-2:]]


@pytest.fixture(scope="module")
def pod() -> Pod:
    """The pod of deploy/gke."""
    found = subprocess.run(["kubectl", "kustomize", "deploy/gke"], cwd=ROOT, capture_output=True, text=True, check=True)
    kinds = {document["kind"]: document for document in yaml.safe_load_all(found.stdout)}
    spec = kinds["Deployment"]["spec"]["template"]["spec"]
    own = {one["name"]: one["value"] for one in spec["containers"][0]["env"]}
    return Pod(spec, {**kinds["ConfigMap"]["data"], **own})


@pytest.fixture
def running(full: Image, pod: Pod) -> Iterator[Container]:
    """The container, started a moment ago; only its port differs, as it shares this machine's network."""
    reservation = reserve_port()
    port = reservation.getsockname()[1]
    containers.call("engine", "rm", "--force", NAME, check=False)
    words = ["run", "--detach", "--name", NAME, "--pull=never", "--network=host", "--env", f"PORT={port}"]
    containers.call("engine", *words, *no_more_folders(), *pod.options(), full.name)
    container = Container(NAME, port, reservation)
    yield container
    container.remove()


def no_more_folders() -> list[str]:
    """Return the option by which podman adds no writable folders of its own to a read-only root."""
    help_text = containers.call("engine", "run", "--help")
    return ["--read-only-tmpfs=false"] if "read-only-tmpfs" in help_text else []


def test_probes_answer_in_their_time(running: Container, pod: Pod, tell: Tell) -> None:
    began = time.monotonic()
    running.wait_until_ready()
    took = time.monotonic() - began
    probes = {name: pod.container[name] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    statuses = {name: running.get(probe["httpGet"]["path"]).status for name, probe in probes.items()}
    tell(f"pod of {pod.cpus:g} CPU: ready {took:.1f} s after the container was there")

    assert statuses == dict.fromkeys(probes, 200)
    assert took < probes["startupProbe"]["periodSeconds"] * probes["startupProbe"]["failureThreshold"]


def test_it_is_confined_as_the_manifest_says(running: Container, pod: Pod) -> None:
    running.wait_until_ready()
    told = json.loads(containers.call("engine", "inspect", NAME))[0]["HostConfig"]
    status = dict(line.split(":\t", 1) for line in running.run("cat", "/proc/1/status").splitlines() if ":\t" in line)
    user, group = pod.spec["securityContext"]["runAsUser"], pod.spec["securityContext"]["runAsGroup"]

    assert (told["Memory"], told["NanoCpus"]) == (pod.memory_bytes, pod.cpus * 1e9)
    assert (set(status["Uid"].split()), set(status["Gid"].split())) == ({str(user)}, {str(group)})
    assert {status[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapInh")} == {"0000000000000000"}
    assert status["NoNewPrivs"].strip() == "1"
    for folder in ("/", "/app", "/opt/venv", "/var", "/var/tmp"):
        assert "Read-only" in running.run("touch", f"{folder}/x", check=False)
    assert running.run("touch", "/tmp/x") == ""


def test_it_answers_every_protocol_within_its_memory(
    running: Container, pod: Pod, context: Context, digest: str, tell: Tell
) -> None:
    running.wait_until_ready()
    target = preflight.inspect(f"http://{HOST}:{running.port}", {}, context.folder / "bundles/penguins" / digest)
    found = asked(running, target.bundle)
    memory = memory_bytes(running)
    tell(f"{CALLS} calls: {dict(found)}; {memory / 2**20:.0f} of {pod.memory_bytes / 2**20:.0f} MiB in use")

    assert target.mix == MIX
    assert found == {"": CALLS}
    assert memory < pod.memory_bytes * 0.7
    assert json.loads(containers.call("engine", "inspect", NAME))[0]["State"]["OOMKilled"] is False


def test_it_ends_within_the_grace_that_is_left_after_pre_stop(running: Container, pod: Pod) -> None:
    running.wait_until_ready()
    left = pod.spec["terminationGracePeriodSeconds"] - pod.container["lifecycle"]["preStop"]["sleep"]["seconds"]
    running.terminate()

    assert running.ends_within(left)
    assert running.status() == 0


def asked(running: Container, bundle: Bundle) -> Counter[str]:
    """Send mixed traffic; returns how often what was wrong."""
    traffic, found = Traffic(bundle, MIX), Counter[str]()
    with closing(running.connect()) as connection:
        for _ in range(CALLS):
            call = traffic.next()
            answer = exchange(connection, "POST", call.path, call.body, dict(call.headers))
            found[call.check(answer.status, answer.body)] += 1
    return found


def memory_bytes(running: Container) -> int:
    """Return what all processes in the container use, shared pages divided among them."""
    processes = ["1", *running.run("cat", "/proc/1/task/1/children").split()]
    told = running.run("cat", *(f"/proc/{one}/smaps_rollup" for one in processes))
    return sum(int(kb) * 1024 for kb in re.findall(r"^Pss:\s+(\d+) kB", told, re.MULTILINE))
