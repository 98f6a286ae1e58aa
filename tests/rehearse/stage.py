"""One rehearsal's stage: a local Cloud Run, a fake bucket with a bundle, traffic, and the real controller."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from model import publish, verify
from model.store import parse
from tests.fakes.cloudrun import CloudRun, Image
from tests.fakes.cloudrun_revisions import GUNICORN
from tests.fakes.cloudrun_wire import Reply, Request
from tests.fakes.gcs import FakeStorage

ROOT = Path(__file__).resolve().parents[2]
SERVICE = "penguins"
LOGGING_HOST = "logging.fake.test"
FAULTS = ("errors", "slow", "wrong", "shift")
ENDED = {0: "promoted", 1: "failed", 3: "rolled back", 4: "stood down", 5: "held", 6: "unverified", 7: "unavailable"}
ENDED |= {9: "alone", 10: "unfit", 11: "superseded", 12: "unsure", 130: "interrupted"}
END_SECONDS = 150
FIRST_PERCENT = 20
# thresholds for minutes instead of hours: the rules are the same
QUICK = """
[rollout]
steps_percent = [{first}, 50, 100]
approve_percent = []
window_seconds = 1
look_seconds = 1
metrics_delay_seconds = 1
metrics_stale_seconds = 5
step_min_seconds = 3
step_deadline_seconds = {deadline}
policy = "hold"
warm_seconds = 2
share_seen_min = 0.2
false_rollback_max = 0.005
false_promotion_max = 0.005
slow_seconds = 0.04
tail = 0.3
plans = {{}}
[rollout.probing]
ready_seconds = 10
golden_differences_max = 0
probability_tolerance = 1e-5
pairs_min = 100
changed_max = {changed_max}
shift_max = {changed_max}
"""
GATE = """
[rollout.gates.{name}]
ratio_tolerated = 1.25
difference_tolerated = 0.05
difference_harmful = 0.6
requests_to_roll_back = 20
requests_to_promote = 40
"""
GATES = ("errors", "latency", "refusals", "classes", "confidence", "novelty")


class Stage:
    """What a scenario plays on; use it in a `with`.

    Attributes:
        cloud: the local Cloud Run.
        counts: what the traffic saw, once it was ended.
        metrics: where the controller asks for metrics.
        entries: what Cloud Logging was sent.
        back_seconds: from the candidate's death until it had no traffic any more; None if it did not die.
        said: what was printed by the last of our commands.
    """

    def __init__(
        self,
        bundle: Path,
        *,
        stable: Path | None = None,
        deadline_seconds: int = 60,
        changed_max: float = 0.05,
        first_percent: int = FIRST_PERCENT,
    ) -> None:
        """Prepare.

        Args:
            bundle: what candidates serve.
            stable: what the stable revision serves; None for the same.
            deadline_seconds: of a step.
            changed_max: share of the golden rows that may change class, and how far probabilities may move on average.
            first_percent: share of the first step.
        """
        self._first_percent = first_percent
        self.back_seconds: float | None = None
        self._changed_max = changed_max
        self._bundle, self._stable, self._deadline = bundle, stable or bundle, deadline_seconds
        self._folder = tempfile.TemporaryDirectory(prefix="rehearse-")
        self.folder = Path(self._folder.name)
        self._bucket = FakeStorage()
        self._load: subprocess.Popen[str] | None = None
        self._controllers: list[subprocess.Popen[str]] = []
        self.counts: dict[str, int] = {}
        self.said = ""
        self.entries: list[Any] = []

    def __enter__(self) -> Stage:
        self._bucket.__enter__()
        self._bucket.create_bucket("models")
        with self._bucket.client() as client:
            home = parse("gs://models/penguins")
            stable, self.stable_digest = publish.upload(self._stable, home, True, client)
            address, self.digest = publish.upload(self._bundle, home, True, client)
        self.uri, self.stable_uri = str(address), str(stable)
        images = {"registry.test/good": Image()}
        for fault in FAULTS:
            command = (*GUNICORN, "tests.fakes.faulty_service:asgi()")
            images[f"registry.test/{fault}"] = Image(command, environment={"FAULT": fault})
        # a machine that others use stalls for longer than a service lets anybody wait: that is not what is rehearsed
        patient = {"ROOKERY_WAIT_SECONDS": "20"}
        self.cloud = CloudRun(images, settings=self._bucket.environment() | patient)
        self.cloud.patience_seconds = 15
        self.cloud.monitoring.shortest_period = 1
        self.cloud.hosts[LOGGING_HOST] = self._keep_entries
        self.cloud.__enter__()
        self.environment = self.cloud.environment(self.folder) | self._bucket.environment()
        self.environment["CLOUDSDK_API_ENDPOINT_OVERRIDES_LOGGING"] = f"http://{LOGGING_HOST}/"
        self.metrics = self.cloud.prometheus
        (self.folder / "slo.toml").write_text(
            QUICK.format(first=self._first_percent, deadline=self._deadline, changed_max=self._changed_max)
            + "".join(GATE.format(name=name) for name in GATES)
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end_load()
        for controller in self._controllers:
            if controller.poll() is None:
                controller.kill()
            controller.communicate()
        self.cloud.__exit__(kind, error, trace)
        self._bucket.stop()
        self._folder.cleanup()

    def _keep_entries(self, request: Request) -> Reply:
        self.entries += request.json()["entries"]
        return Reply.json({})

    def deploy(self, image: str, *more: str, uri: str = "", digest: str = "") -> int:
        """Deploy as `make deploy` does; returns the command's exit status."""
        command = [sys.executable, "-m", "scripts.deploy", "revision", f"--service={SERVICE}", "--project=demo"]
        command += ["--region=us-central1", f"--image=registry.test/{image}:1", "--unsigned", "--no-sidecar"]
        command += ["--set=ROOKERY_TRACE_ENDPOINT=", "--set=ROOKERY_TRACE_AUTH=none", "--set=ROOKERY_PROJECT="]
        command += [f"--model-uri={uri or self.uri}", f"--model-digest={digest or self.digest}", *more]
        command += [f"--slo={self.folder / 'slo.toml'}"]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.said = done.stdout
        return done.returncode

    def begin(self, candidate: str, *more: str, rate: float = 120) -> str:
        """Deploy a good stable revision, traffic on it, and a candidate; returns the stable revision's name."""
        status = self.deploy("good", uri=self.stable_uri, digest=self.stable_digest)
        assert status == 0, "the first deployment failed"
        (stable,) = self.cloud.traffic(SERVICE)
        if rate:
            self.start_load(rate)
        assert self.deploy(candidate, "--set=ROOKERY_COMMIT=candidate", *more) == 0, "the candidate was not deployed"
        return stable

    def start_load(self, rate: float) -> None:
        """Send requests in the background."""
        host = self.cloud.url(SERVICE).removeprefix("http://")
        command = [sys.executable, "-m", "tests.rehearse.load", self.cloud.proxy, host, str(rate)]
        command += [str(one) for one in dict.fromkeys((self._stable, self._bundle))]
        self._load = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, text=True)
        assert self._load.stdout
        self._load.stdout.readline()

    def end_load(self) -> None:
        """End the traffic and count."""
        load, self._load = self._load, None
        if load:
            load.send_signal(signal.SIGTERM)
            said, _ = load.communicate(timeout=30)
            self.counts = json.loads(said.splitlines()[-1])

    def start_controller(self) -> subprocess.Popen[str]:
        """Start the real controller."""
        command = [sys.executable, "-m", "scripts.rollout", "run", f"--service={SERVICE}", "--project=demo", "--plain"]
        command += ["--region=us-central1", f"--bundle={self.uri}", f"--digest={self.digest}"]
        command += [f"--metrics={self.metrics}", f"--slo={self.folder / 'slo.toml'}", "--cloud-logging"]
        command += [f"--record={self.folder / 'record.jsonl'}"]
        started = subprocess.Popen(
            command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._controllers.append(started)
        return started

    def say(self, verb: str, *more: str) -> int:
        """Say a verb to the rollout, as a person does; returns the command's exit status."""
        command = [sys.executable, "-m", "scripts.rollout", verb, f"--service={SERVICE}", "--project=demo", *more]
        command += ["--region=us-central1", f"--slo={self.folder / 'slo.toml'}"]
        return subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, check=False).returncode

    def finish(self, controller: subprocess.Popen[str]) -> str:
        """Wait for a controller's end and return it in a word."""
        self.said, _ = controller.communicate(timeout=END_SECONDS)
        return ENDED.get(controller.returncode, f"status {controller.returncode}")

    def rollout(self) -> str:
        """Run a controller to its end."""
        return self.finish(self.start_controller())

    def rollout_to_the_death(self, percent: int, die: Callable[[str], None]) -> str:
        """Run a controller, let the candidate die once it has so much traffic, and note how long that is left to it.

        Args:
            percent: the candidate's share when it dies.
            die: is given the candidate's name.
        """
        controller = self.start_controller()
        self.until(lambda: self.share() >= percent)
        began = time.monotonic()
        die(self.newest)
        self.until(lambda: self.share() == 0)
        self.back_seconds = time.monotonic() - began
        return self.finish(controller)

    def until(self, is_so: Callable[[], bool]) -> None:
        """Wait for something on the stage."""
        self.cloud.wait_until(is_so, END_SECONDS)

    @property
    def newest(self) -> str:
        """Name of the revision that was deployed last."""
        return self.cloud.resources.find(SERVICE).latest_created

    def targets(self) -> list[dict[str, Any]]:
        """Return where traffic and tags point."""
        return self.cloud.resources.find(SERVICE).traffic

    def share(self) -> int:
        """Return the candidate's percent of the traffic."""
        return self.cloud.traffic(SERVICE).get(self.newest, 0)

    def gcloud(self, *arguments: str) -> int:
        """Do what a person does."""
        command: Sequence[str] = ["gcloud", "run", "services", *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, check=False).returncode


def bundle_in(folder: Path) -> Path:
    """Return the bundle that a folder's `current` names."""
    return folder / (folder / "current").read_text().strip()


def check_bundle(folder: Path) -> None:
    """Fail at once if there is no good bundle to rehearse with."""
    verify.read(folder)
