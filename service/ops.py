"""The routes for operators: model card, health, version."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import msgspec
import orjson
from flask import Blueprint, Response, request

from model.manifest import Manifest
from model.predictor import Predictor
from service import fleet, metrics, stopping
from service.answer import Answerer, no_model
from service.config import Settings
from service.loader import QUARANTINED, Attempt, NotReady
from service.reply import JSON
from service.tally import Tally

LIBRARIES = ("flask", "gunicorn", "marshmallow", "numpy", "onnxruntime", "orjson", "xgboost", "xgboost-cpu")
# nobody can ask so often that writing down the counters takes more than a hundredth of the loop's time
FRESH_SECONDS = 1.0


def blueprint(answerer: Answerer, settings: Settings, tally: Tally) -> Blueprint:
    """Return the routes for operators."""
    routes = Blueprint("ops", __name__)

    @routes.get("/model")
    def model() -> Response:
        """Show the model card."""
        ready = answerer.require_model()
        predictor = ready.predictor
        return as_json(
            {
                **of_bundle(predictor),
                "digest": ready.digest,
                "engine": predictor.engine.name,
                "fallback": ready.is_fallback,
                "attempts": [vars_of(attempt) for attempt in ready.attempts],
                "load_seconds": ready.phases,
                "contributions": predictor.no_contributions_reason or "available",
            }
        )

    @routes.get("/health/live")
    def live() -> Response:
        """Answer 200 while the instance is worth keeping."""
        refuse_dead(answerer)
        return as_json({"status": "live"})

    @routes.get("/health/ready")
    def ready() -> Response:
        """Answer 200 once the model is verified, loaded and proven, and until the process is told to stop."""
        refuse_unready(answerer)
        return as_json({"status": "ready", "digest": answerer.require_model().digest})

    def count(*, as_openmetrics: bool) -> bytes:
        """Write down the counters, with all that has been answered."""
        answerer.monitor.flush()
        return metrics.exposition(tally, as_openmetrics=as_openmetrics)

    in_text, in_openmetrics = (Lately(partial(count, as_openmetrics=each)) for each in (False, True))

    @routes.get("/metrics")
    def show_metrics() -> Response:
        """Show what Prometheus scrapes."""
        if metrics.OPENMETRICS in request.headers.get("Accept", ""):
            return Response(in_openmetrics(), 200, content_type=metrics.OPENMETRICS_CONTENT_TYPE)
        return Response(in_text(), 200, content_type=metrics.CONTENT_TYPE)

    def report_drift() -> bytes:
        """Compare the counters with the reference."""
        ready = answerer.require_model()
        answerer.monitor.flush()
        # nobody waits for it at the start
        from service import drift_report

        return orjson.dumps(drift_report.report(tally, ready.digest, ready.predictor.manifest))

    drift = Lately(report_drift)

    @routes.get("/model/drift")
    def show_drift() -> Response:
        """Show what this instance has seen, against the reference."""
        return Response(drift(), 200, content_type=JSON)

    @routes.get("/version")
    def show_version() -> Response:
        """Say what runs."""
        return as_json(
            {
                "commit": settings.commit,
                "build_time": settings.build_time,
                "digest": answerer.digest,
                "libraries": installed(),
                **({"vertex_endpoint": settings.vertex_endpoint} if settings.vertex_endpoint else {}),
            }
        )

    return routes


class Lately:
    """What costs too much to be made for everybody who asks: made when somebody asks, and at most once a second.

    Used by one thread.
    """

    def __init__(
        self, make: Callable[[], bytes], seconds: float = FRESH_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin with nothing made.

        Args:
            make: what to make; if it raises, nothing is remembered.
            seconds: how long it is answered.
            clock: seconds that only grow.
        """
        self._make, self._seconds, self._clock = make, seconds, clock
        self._made, self._made_at = b"", -math.inf

    def __call__(self) -> bytes:
        """Return what was made last, or now if that was too long ago."""
        now = self._clock()
        if now - self._made_at >= self._seconds:
            self._made = self._make()
            self._made_at = now
        return self._made


def refuse_unready(answerer: Answerer) -> None:
    """Refuse unless every worker of the instance that takes connections has a model.

    Raises:
        Stopping: the instance has been told to stop; a worker alone may be replaced while the others serve.
        NoModel: this worker has no model, or another one.
    """
    others = fleet.current.others(fleet.own)
    answerer.require_model()
    for other in others:
        if other.says == fleet.UNREADY:
            raise no_model(other.code)
    if not any(other.says == fleet.READY for other in others):
        stopping.refuse_if_told()


def refuse_dead(answerer: Answerer) -> None:
    """Refuse once the instance has nothing left to serve and only a new one may help.

    That is where its bundle is in quarantine, and where it had a model once and found none since. An instance that has
    never been ready is alive: what it misses is outside of it, and it tries again by itself.

    Raises:
        NoModel: no worker has a model.
    """
    state, instance = answerer.state, fleet.current
    if not isinstance(state, NotReady) or any(one.says == fleet.READY for one in instance.others(fleet.own)):
        return
    if state.code == QUARANTINED or instance.has_served:
        raise no_model(state.code)


def vars_of(attempt: Attempt) -> dict[str, str]:
    """Return what is known about one bundle that was tried."""
    return {name: value for name, value in asdict(attempt).items() if value is not None}


@functools.cache
def installed() -> dict[str, str]:
    """Return the libraries that serve, read from their metadata once."""
    # the start does not wait for it
    from model.libraries import versions

    return versions(LIBRARIES)


@functools.cache
def of_bundle(predictor: Predictor) -> dict[str, Any]:
    """Return what `/model` tells of a bundle, worked out once: whoever asks often must hold nobody up."""
    # nobody waits for it at the start
    from model.examples import examples

    found = [example._asdict() for example in examples(predictor.manifest)]
    return {**card(predictor.manifest), "examples": found}


def card(manifest: Manifest) -> dict[str, Any]:
    """Return the manifest without the golden rows."""
    whole: dict[str, Any] = msgspec.to_builtins(manifest)
    whole["golden"] = {"count": len(manifest.golden.rows), "leaf_share": manifest.golden.leaf_share}
    return whole


def as_json(value: object) -> Response:
    """Return a 200 with a JSON body."""
    return Response(orjson.dumps(value), 200, content_type=JSON)
