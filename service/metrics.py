"""What Prometheus sees: names and labels from the closed list below, never from a request."""

from __future__ import annotations

from collections.abc import Mapping

from service.loader import NotReady, State

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

COLD_START = "rookery_cold_start_seconds"
MODEL_INFO = "rookery_model_info"
FALLBACK = "rookery_model_fallback"
READY = "rookery_model_ready"


def exposition(state: State, phases: Mapping[str, float]) -> bytes:
    """Return the metrics in Prometheus' text format.

    Args:
        state: the model in use, or why there is none.
        phases: seconds of each phase of the cold start.
    """
    # imported at the first scrape: the start does not wait for it
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry = CollectorRegistry()
    cold_start = Gauge(COLD_START, "Seconds each phase of the cold start took", ["phase"], registry=registry)
    for name, seconds in phases.items():
        cold_start.labels(name).set(seconds)
    Gauge(READY, "Whether a verified model answers", registry=registry).set(not isinstance(state, NotReady))
    if not isinstance(state, NotReady):
        labels = ["name", "version", "digest", "engine", "origin"]
        manifest = state.predictor.manifest
        values = [manifest.name, manifest.version, state.digest, state.predictor.engine.name, state.origin]
        Gauge(MODEL_INFO, "The model in use", labels, registry=registry).labels(*values).set(1)
        Gauge(FALLBACK, "Whether another bundle than the pinned one answers", registry=registry).set(state.is_fallback)
    return generate_latest(registry)
