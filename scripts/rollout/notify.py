"""Tells others: a webhook, or a Pub/Sub topic."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Mapping
from typing import Any

import google.auth.exceptions
import requests.exceptions

from scripts.rollout.doors import Event

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = (3, 3)
# a look is no news
TOLD = ("began", "resumed", "moved", "verified", "held", "waits", "ended")
PUBSUB_URL = "https://pubsub.googleapis.com"


def message(event: Event) -> Mapping[str, Any]:
    """Return what is told of an event."""
    verdict = {"verdict": event.judgement.verdict} if event.judgement else {}
    return verdict | {
        "rollout": event.state.rollout,
        "event": event.name,
        "phase": event.state.phase,
        "percent": event.percent,
        "stable": event.state.stable,
        "candidate": event.state.candidate,
        "reason": event.reason,
        "time_seconds": event.time_seconds,
    }


class Notifier:
    """Sends every event that is news, the same only once in a row; one that fails is logged and forgotten."""

    def __init__(self, session: Any, url: str, *, is_topic: bool = False) -> None:
        """Prepare.

        Args:
            session: sends requests, with credentials for a topic.
            url: of the webhook, or of the topic: `https://pubsub.googleapis.com/v1/projects/P/topics/T`.
            is_topic: publish instead of posting.
        """
        self._session, self._is_topic = session, is_topic
        self._url = f"{url}:publish" if is_topic else url
        self._last: tuple[str, str, int] | None = None

    def record(self, event: Event) -> None:
        """See `doors.Recorder`."""
        news = (event.name, event.reason, event.percent)
        if event.name not in TOLD or news == self._last:
            return
        self._last = news
        body: object = message(event)
        if self._is_topic:
            data = base64.b64encode(json.dumps(body).encode()).decode()
            body = {"messages": [{"data": data, "attributes": {"event": event.name, "rollout": event.state.rollout}}]}
        try:
            reply = self._session.post(self._url, json=body, timeout=TIMEOUT_SECONDS)
            if reply.status_code >= 300:
                log.warning("notify.failed", extra={"url": self._url, "status": reply.status_code})
        except (requests.exceptions.RequestException, google.auth.exceptions.GoogleAuthError) as error:
            log.warning("notify.failed", extra={"url": self._url, "reason": str(error)})
