"""Says to what watches that a controller is there, and what share its candidate has: a dead one falls silent.

Cloud Run's own metrics cannot: `run.googleapis.com/request_count` knows revisions, but no tags, and a revision that was
promoted looks like a candidate that was forgotten.  An alert on the absence of log lines would also fire after every
rollout that ended well.  So two numbers are written, the share and the time, and the alert asks for a share above 0 at
the last time, and for how long ago that is; an end writes a share of 0.

- Cloud Monitoring: user-defined metrics, made by their first point; one point in 5 s at most.
  https://cloud.google.com/monitoring/api/ref_v3/rest/v3/projects.timeSeries/create
  https://cloud.google.com/monitoring/custom-metrics/creating-metrics and https://cloud.google.com/monitoring/quotas
  In PromQL `custom.googleapis.com/x` is `custom_googleapis_com:x`: https://cloud.google.com/monitoring/promql/promql-mapping
- Prometheus: a Pushgateway, which shows what was pushed last for ever.
  https://github.com/prometheus/pushgateway#put-method
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import quote

import google.auth.exceptions
import requests.exceptions

from scripts.rollout.doors import Clock, Event
from scripts.rollout.state import Phase

log = logging.getLogger(__name__)

METRICS = ("rookery_rollout_candidate_percent", "rookery_rollout_seen_seconds")
TIMEOUT_SECONDS = (3, 3)
# between two points that say the same, and the least between two points of all
EVERY_SECONDS, LEAST_SECONDS = 60.0, 6.0


class Sink(Protocol):
    """Where the numbers go."""

    def send(self, percent: float, now_seconds: float) -> str:
        """Send the candidate's share and the time; returns why that failed, or an empty text."""
        ...


class MonitoringSink:
    """Cloud Monitoring; the account needs `roles/monitoring.metricWriter`."""

    def __init__(self, session: Any, project: str, region: str, service: str, url: str) -> None:
        """Prepare.

        Args:
            session: sends requests with credentials.
            project: whose metrics.
            region: of the service.
            service: its name, which the metrics have as a label.
            url: of the API.
        """
        self._session, self._url = session, f"{url.rstrip('/')}/v3/projects/{project}/timeSeries"
        self._labels = {"service": service}
        labels = {"project_id": project, "location": region, "namespace": service}
        self._resource = {
            "type": "generic_task",
            "labels": {**labels, "job": "rookery-rollout", "task_id": "controller"},
        }

    def send(self, percent: float, now_seconds: float) -> str:
        """See `Sink`."""
        end = datetime.fromtimestamp(now_seconds, UTC).isoformat().replace("+00:00", "Z")
        series = [
            {
                "metric": {"type": f"custom.googleapis.com/{name}", "labels": self._labels},
                "resource": self._resource,
                "metricKind": "GAUGE",
                "valueType": "DOUBLE",
                "points": [{"interval": {"endTime": end}, "value": {"doubleValue": value}}],
            }
            for name, value in zip(METRICS, (percent, now_seconds), strict=True)
        ]
        return _sent(self._session, "POST", self._url, json={"timeSeries": series})


class PushgatewaySink:
    """A Pushgateway that Prometheus scrapes, with `honor_labels: true`."""

    def __init__(self, session: Any, url: str, service: str) -> None:
        """Prepare; the metrics have the service's name as a label."""
        self._session = session
        self._url = f"{url.rstrip('/')}/metrics/job/rookery-rollout/service/{quote(service, safe='')}"

    def send(self, percent: float, now_seconds: float) -> str:
        """See `Sink`."""
        lines = zip(METRICS, (percent, now_seconds), strict=True)
        text = "".join(f"# TYPE {name} gauge\n{name} {value!r}\n" for name, value in lines)
        return _sent(self._session, "PUT", self._url, data=text.encode())


class Pulse:
    """Sends the numbers at every event, not too often; a failure is logged once."""

    def __init__(self, sink: Sink, clock: Clock) -> None:
        """Prepare.

        Args:
            sink: where the numbers go.
            clock: time.
        """
        self._sink, self._clock = sink, clock
        self._percent: float | None = None
        self._sent: float | None = None
        self._sent_seconds = float("-inf")
        self._has_failed = False

    def record(self, event: Event) -> None:
        """See `doors.Recorder`."""
        # a person who gave everything to the candidate has decided
        is_decided = event.state.phase is Phase.PROMOTED or (event.state.is_over and event.percent == 100)
        self._percent = 0 if is_decided or event.state.is_first else event.percent
        waited = self._clock.now() - self._sent_seconds
        if waited >= EVERY_SECONDS or (self._percent != self._sent and waited >= LEAST_SECONDS):
            self._send(self._percent)

    def say(self, percent: float) -> None:
        """Send a share that a person changed."""
        self._send(percent)

    def close(self) -> None:
        """Send what was not sent yet."""
        if self._percent is not None and self._percent != self._sent:
            self._clock.sleep(max(0.0, LEAST_SECONDS - (self._clock.now() - self._sent_seconds)))
            self._send(self._percent)

    def _send(self, percent: float) -> None:
        now = self._clock.now()
        self._sent_seconds = now
        trouble = self._sink.send(percent, now)
        if not trouble:
            self._sent = percent
        elif not self._has_failed:
            self._has_failed = True
            log.warning("pulse.failed", extra={"reason": trouble})


def _sent(session: Any, method: str, url: str, **body: object) -> str:
    try:
        reply = session.request(method, url, timeout=TIMEOUT_SECONDS, **body)
    except (requests.exceptions.RequestException, google.auth.exceptions.GoogleAuthError) as error:
        return str(error)
    return "" if reply.status_code < 300 else f"{method} {url}: {reply.status_code} {reply.text[:200]}"
