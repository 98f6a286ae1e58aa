"""Brings the parts of a rollout together from what was given on the command line."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import requests

from model import verify
from model.errors import ModelError
from model.store import Bucket, Deadline, is_address, parse
from model.verify import VerifiedBundle
from scripts.rollout import credentials, monitoring, plan, state
from scripts.rollout.cloudrun import CloudRun, Place, Services
from scripts.rollout.controller import Controller, OnHold
from scripts.rollout.credentials import CredentialsError
from scripts.rollout.doors import Recorder
from scripts.rollout.monitoring import Monitoring
from scripts.rollout.notify import PUBSUB_URL, Notifier
from scripts.rollout.observe import MetricsObserver, Source
from scripts.rollout.plan import Plan, PlanError
from scripts.rollout.platform import Platform
from scripts.rollout.prometheus import Prometheus
from scripts.rollout.pulse import MonitoringSink, Pulse, PushgatewaySink
from scripts.rollout.record import LOGGING_URL, CloudRecord, Record, Tee
from scripts.rollout.smoke import HttpProber, golden_rows
from scripts.rollout.state import Damaged
from scripts.rollout.view import Lines, Screen

log = logging.getLogger(__name__)

TOKEN_SECONDS = 1800.0
# gcloud's own variables move us to other endpoints, too
MONITORING_OVERRIDE = "CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING"
LOGGING_OVERRIDE = "CLOUDSDK_API_ENDPOINT_OVERRIDES_LOGGING"


class UsageError(Exception):
    """What was given does not make a rollout; the text is one line for a person."""


class WallClock:
    """The real time."""

    def now(self) -> float:
        """See `doors.Clock`."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """See `doors.Clock`."""
        threading.Event().wait(seconds)


def read_plan(path: Path, name: str) -> Plan:
    """Read a plan from a file.

    Raises:
        UsageError: there is no such file, or it is no TOML.
        PlanError: see `plan.read`.
    """
    try:
        return plan.read(tomllib.loads(path.read_text(encoding="utf-8")), name)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {error}") from error
    except PlanError as error:
        raise PlanError(f"{path}: {error}") from error


def platform(given: argparse.Namespace, env: Mapping[str, str]) -> Platform:
    """Return the service that is meant."""
    place = Place.of(given.project, given.region, env)
    return CloudRun(Services(place, credentials.session(env)), given.service)


def plan_of(service_platform: Platform, given: argparse.Namespace) -> Plan:
    """Return the plan that was asked for, or the one that the rollout under way follows."""
    name = given.plan
    if name is None:
        try:
            found = state.of(service_platform.read())
        except Damaged:
            # the verb says so itself
            found = None
        name = found.plan if found is not None and not found.is_over else "canary"
    return read_plan(given.slo, name)


def bundle(given: argparse.Namespace) -> VerifiedBundle:
    """Read the bundle that the candidate is meant to serve, and verify it.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        if is_address(given.bundle):
            address = parse(given.bundle)
            return verify.read(verify.Remote(Bucket(address), Deadline(60)), given.digest or address.digest)
        return verify.read(_folder(Path(given.bundle)), given.digest)
    except ModelError as error:
        raise UsageError(str(error)) from error


def _folder(path: Path) -> Path:
    """Follow the text file `current`, which names the newest bundle of a folder."""
    pointer = path / "current"
    return path / pointer.read_text().strip() if pointer.is_file() else path


def prober(
    given: argparse.Namespace, env: Mapping[str, str], found: VerifiedBundle, url: str, rules: Plan
) -> HttpProber:
    """Return what asks the revisions of a service."""
    asks = token(given.token, env, url)
    tolerance = rules.probing.probability_tolerance
    return HttpProber(golden_rows(found.manifest), requests.Session(), asks, tolerance=tolerance)


def source(given: argparse.Namespace, env: Mapping[str, str]) -> Source:
    """Return where the metrics are."""
    if given.metrics == "monitoring":
        url = env.get(MONITORING_OVERRIDE) or monitoring.URL
        return Monitoring(given.project, credentials.session(env), url=url, revision_label=given.revision_label)
    is_private = given.metrics.startswith("https://") and given.token == "auto"  # noqa: S105 - a kind, no password
    session = credentials.session(env) if is_private else requests.Session()
    return Prometheus(given.metrics, session, revision_label=given.revision_label)


def pulse(given: argparse.Namespace, env: Mapping[str, str]) -> Pulse | None:
    """Return what says that a controller is there, None where that is not wanted."""
    if given.heartbeat == "none":
        return None
    if given.heartbeat != "monitoring":
        return Pulse(PushgatewaySink(requests.Session(), given.heartbeat, given.service), WallClock())
    url = env.get(MONITORING_OVERRIDE) or monitoring.URL
    sink = MonitoringSink(credentials.session(env), given.project, given.region, given.service, url)
    return Pulse(sink, WallClock())


def recorder(given: argparse.Namespace, env: Mapping[str, str], rules: Plan, beats: Pulse | None = None) -> Recorder:
    """Return everybody who is told: the file, the terminal, and who was named."""
    told: list[Recorder] = [Record(given.record), *filter(None, [beats])]
    is_screen = sys.stdout.isatty() and not given.json and not given.plain
    told.append(Screen(sys.stdout, rules) if is_screen else Lines(sys.stdout, is_json=given.json))
    if given.webhook:
        told.append(Notifier(requests.Session(), given.webhook))
    if given.topic:
        told.append(Notifier(credentials.session(env), f"{PUBSUB_URL}/v1/{given.topic}", is_topic=True))
    if given.cloud_logging:
        told.append(CloudRecord(credentials.session(env), given.project, env.get(LOGGING_OVERRIDE) or LOGGING_URL))
    return Tee(told)


def controller(
    given: argparse.Namespace,
    env: Mapping[str, str],
    served: Platform,
    rules: Plan,
    found: VerifiedBundle,
    beats: Pulse | None = None,
) -> Controller:
    """Return a controller that nobody else is."""
    asks = prober(given, env, found, served.read().url, rules)
    observes = MetricsObserver(source(given, env), rules)
    holder = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    return Controller(
        served,
        observes,
        asks,
        recorder(given, env, rules, beats),
        WallClock(),
        rules,
        holder,
        on_hold=OnHold(given.on_hold),
        timeout_seconds=given.timeout,
    )


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGINT interrupt what runs within, once: what is done about it is not to be interrupted.

    As process 1 of a container, which a step of Cloud Build is, Python would not even notice SIGTERM.
    """
    signals = (signal.SIGINT, signal.SIGTERM)

    def interrupt(*_: object) -> None:
        for one in signals:
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = [signal.signal(one, interrupt) for one in signals]
    try:
        yield
    finally:
        for one, handler in zip(signals, before, strict=True):
            signal.signal(one, handler)


def token(kind: str, env: Mapping[str, str], audience: str) -> Callable[[], str | None]:
    """Return what gives an identity token, made anew every half hour."""
    if kind == "none":
        return lambda: None
    # the first one now: without any nothing can begin
    kept: dict[str, Any] = {"at": time.monotonic(), "token": credentials.identity_token(env, audience)}

    def renewed() -> str | None:
        if time.monotonic() - kept["at"] > TOKEN_SECONDS:
            try:
                kept.update(at=time.monotonic(), token=credentials.identity_token(env, audience))
            except CredentialsError as error:
                log.warning("token.failed", extra={"reason": str(error)})
        return str(kept["token"])

    return renewed
