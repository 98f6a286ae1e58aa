"""The users, for Locust: `locust -f load/locustfile.py --host=http://127.0.0.1:8080` sends random valid rows.

With a bundle in `LOAD_BUNDLE` its golden rows are sent instead and every answer is compared with the known one.
`python -m load.run`, which `make load` calls, sets `LOAD_SCENARIO`, `LOAD_QUICK`, `LOAD_SOAK_SECONDS`,
`LOAD_TRACED_EVERY` and `LOAD_SAMPLES` besides.
The identity token is `LOAD_TOKEN`, or what the command in `LOAD_TOKEN_COMMAND` prints.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import secrets
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from locust import FastHttpUser, LoadTestShape, between, events, task
from locust.env import Environment
from locust.exception import StopUser

from load import preflight, scenarios
from load.identity import Identity, TokenError
from load.preflight import Stop
from load.traffic import MIX, Traffic

SCENARIO = os.environ.get("LOAD_SCENARIO", "")
SAMPLES = os.environ.get("LOAD_SAMPLES", "")
BUNDLE = os.environ.get("LOAD_BUNDLE", "")
IDENTITY = Identity(os.environ.get("LOAD_TOKEN", ""), shlex.split(os.environ.get("LOAD_TOKEN_COMMAND", "")))
SOAK_SECONDS = float(os.environ.get("LOAD_SOAK_SECONDS", scenarios.SOAK_SECONDS))
IS_QUICK = os.environ.get("LOAD_QUICK") == "1"
PLAN = scenarios.named(SCENARIO, quick=IS_QUICK, soak_seconds=SOAK_SECONDS) if SCENARIO else None
TIMING = re.compile(r"(predict|total);dur=([\d.]+)")
STOPPED_STATUS = 3
# every so many single rows ask for a trace; 0 for none
TRACED_EVERY = int(os.environ.get("LOAD_TRACED_EVERY", "0"))


class Recorder:
    """Keeps every request as it was; Locust's own statistics round."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.began = time.time()
        self.columns: dict[str, list[Any]] = {
            "start": [],
            "seconds": [],
            "kind": [],
            "failure": [],
            "trace_id": [],
            "predict_ms": [],
            "total_ms": [],
        }

    def take(
        self,
        name: str,
        response_time: float,
        response: Any,
        exception: BaseException | None,
        start_time: float,
        trace_id: str,
    ) -> None:
        """Keep one request."""
        head = getattr(response, "headers", None) or {}
        timing = dict(TIMING.findall(head.get("server-timing") or ""))
        row = {
            "start": round(start_time - self.began, 6),
            "seconds": round(response_time / 1000, 6),
            "kind": name,
            "failure": str(exception)[:120] if exception else "",
            "trace_id": trace_id,
            "predict_ms": float(timing["predict"]) if "predict" in timing else None,
            "total_ms": float(timing["total"]) if "total" in timing else None,
        }
        for column, value in row.items():
            self.columns[column].append(value)

    def write(self, path: Path) -> None:
        """Write everything down, whole or not at all."""
        part = path.with_suffix(".part")
        with gzip.open(part, "wt") as file:
            json.dump({"began": self.began, "samples": self.columns}, file)
        os.replace(part, path)


class Session:
    """What one test has: its requests and what became of them; None while a host is not fit to be called."""

    traffic: Traffic | None = None
    recorder = Recorder()
    singles = 0

    @classmethod
    def trace_id(cls, kind: str) -> str:
        """Return the id with which the next call is traced, empty if it is not."""
        cls.singles += kind == "single"
        is_due = TRACED_EVERY and kind == "single" and cls.singles % TRACED_EVERY == 0
        return secrets.token_hex(16) if is_due else ""


class Caller(FastHttpUser):
    """Someone who calls the service, reads the answer, checks it, and pauses."""

    wait_time = between(*(PLAN.pause_seconds if PLAN else (0.5, 1.5)))
    insecure = False

    @task
    def call(self) -> None:
        """Send the next request."""
        if Session.traffic is None:
            raise StopUser
        wanted = Session.traffic.next()
        trace_id = Session.trace_id(wanted.kind)
        traced = {"traceparent": f"00-{trace_id}-{trace_id[:16]}-01"} if trace_id else {}
        with self.client.post(
            wanted.path,
            # declared as text, but what is below takes bytes as they are
            data=cast("Any", wanted.body),
            headers={**wanted.headers, **IDENTITY.headers(), **traced},
            name=wanted.kind,
            context={"trace_id": trace_id},
            catch_response=True,
        ) as reply:
            if not reply.status_code:
                reply.failure(f"lost: {type(reply.error).__name__}")
                return
            wrong = wanted.check(reply.status_code, reply.content or b"")
            if wrong:
                reply.failure(wrong)
            else:
                reply.success()


if PLAN is not None:

    class Shape(LoadTestShape):
        """The scenario's users over time."""

        def tick(self) -> tuple[int, float] | None:
            """Return how many users there should be by now, and how fast they arrive."""
            stage = PLAN.stage_at(self.get_run_time()) if PLAN is not None else None
            return (stage.users, stage.rate) if stage else None


@events.test_start.add_listener
def begin(environment: Environment, **_: Any) -> None:
    """Look at the host before anybody calls it; without the web page, end with what was found if it is not fit."""
    Session.traffic = None
    try:
        folder = Path(BUNDLE) if BUNDLE else None
        mix = PLAN.mix if PLAN else MIX
        target = preflight.inspect((environment.host or "").rstrip("/"), IDENTITY.headers(), folder, mix)
    except (Stop, TokenError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        if environment.web_ui is None:
            os._exit(STOPPED_STATUS)
        return
    Session.traffic, Session.recorder = Traffic(target.bundle, target.mix), Recorder()


@events.request.add_listener
def take(
    name: str,
    response_time: float,
    response: Any = None,
    exception: BaseException | None = None,
    start_time: float = 0,
    context: Mapping[str, Any] | None = None,
    **_: Any,
) -> None:
    """Keep a request."""
    trace_id = str((context or {}).get("trace_id", ""))
    Session.recorder.take(name, response_time, response, exception, start_time, trace_id)


@events.test_stop.add_listener
def end(**_: Any) -> None:
    """Write the samples down, where someone asked for them."""
    if SAMPLES and Session.traffic is not None:
        Session.recorder.write(Path(SAMPLES))
