"""Keeps what happened, one line of JSON an event, so that every verdict can be explained and judged again."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import google.auth.exceptions
import requests.exceptions

from scripts.rollout.doors import Event, Recorder
from scripts.rollout.gate import Look, Probe, Replay
from scripts.rollout.state import Phase, State
from scripts.rollout.verdict import Finding, Judgement, Verdict
from scripts.rollout.windows import Histogram, Observation, Window

log = logging.getLogger(__name__)

LOGGING_URL = "https://logging.googleapis.com"
TIMEOUT_SECONDS = (3, 3)


class RecordError(Exception):
    """A record cannot be read; the text names the file and the line."""


class Record:
    """An append-only file; a window is written once, and again only if late metrics changed it."""

    def __init__(self, path: Path) -> None:
        """Name the file; it and its folder are made when something happens."""
        self._path = path
        self._written: dict[tuple[str, str, float], dict[str, Any]] = {}

    def record(self, event: Event) -> None:
        """See `doors.Recorder`."""
        table = to_table(event)
        if observed := table.get("observation"):
            for side in ("candidate", "stable"):
                observed[side] = [one for one in observed[side] if self._is_new(event.state.rollout, side, one)]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(table, separators=(",", ":")) + "\n")
        except OSError as error:
            log.warning("record.failed", extra={"path": str(self._path), "reason": str(error)})

    def _is_new(self, rollout: str, side: str, window: dict[str, Any]) -> bool:
        key = (rollout, side, window["start_seconds"])
        if self._written.get(key) == window:
            return False
        self._written[key] = window
        return True


class CloudRecord:
    """The same in Cloud Logging, as the log `rookery-rollout`, without the windows; over REST, and never for long.

    The library would try for a minute, and a rollback waits for nobody.
    See https://cloud.google.com/logging/docs/reference/v2/rest/v2/entries/write.
    """

    def __init__(self, session: Any, project: str, url: str = LOGGING_URL) -> None:
        """Prepare.

        Args:
            session: sends requests with credentials.
            project: whose log.
            url: of the API.
        """
        self._session, self._project, self._url = session, project, f"{url.rstrip('/')}/v2/entries:write"

    def record(self, event: Event) -> None:
        """See `doors.Recorder`."""
        table = to_table(event)
        table.pop("observation", None)
        is_bad = event.state.phase in (Phase.ROLLED_BACK, Phase.STOOD_DOWN) or event.name == "held"
        entry = {
            "logName": f"projects/{self._project}/logs/rookery-rollout",
            "resource": {"type": "global", "labels": {"project_id": self._project}},
            "severity": "WARNING" if is_bad else "INFO",
            "labels": {"rollout": event.state.rollout},
            "jsonPayload": table,
        }
        try:
            reply = self._session.post(self._url, json={"entries": [entry]}, timeout=TIMEOUT_SECONDS)
            if reply.status_code != 200:
                log.warning("record.failed", extra={"logger": "Cloud Logging", "status": reply.status_code})
        except (requests.exceptions.RequestException, google.auth.exceptions.GoogleAuthError, ValueError) as error:
            log.warning("record.failed", extra={"logger": "Cloud Logging", "reason": str(error)})


class Tee:
    """Tells several."""

    def __init__(self, recorders: Sequence[Recorder]) -> None:
        """Name them."""
        self._recorders = tuple(recorders)

    def record(self, event: Event) -> None:
        """See `doors.Recorder`."""
        for recorder in self._recorders:
            recorder.record(event)


def to_table(event: Event) -> dict[str, Any]:
    """Return an event as JSON holds it; what is not known is left out."""
    table = asdict(event)
    return {name: value for name, value in table.items() if value not in (None, "")}


def read(path: Path, rollout: str | None = None) -> list[Event]:
    """Read a record; every observation is whole again.

    Args:
        path: the file.
        rollout: the name of one rollout; None for the last one in the file.

    Raises:
        RecordError: there is no such file or rollout, or a line is damaged.
    """
    try:
        tables = list(_tables(path))
    except FileNotFoundError as error:
        raise RecordError(f"{path}: no rollout was recorded here; name its record with --record") from error
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}") from error
    name = rollout or (tables[-1]["state"]["rollout"] if tables else "")
    chosen = [table for table in tables if table["state"]["rollout"] == name]
    if not chosen:
        raise RecordError(f"{path}: no rollout {name}")
    windows: dict[tuple[str, float], Window] = {}
    return [_event(table, windows) for table in chosen]


def _tables(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                table = json.loads(line)
                table["state"]["rollout"]
            except (ValueError, KeyError, TypeError) as error:
                raise RecordError(f"{path}:{number}: no event of a rollout") from error
            yield table


def _event(table: Mapping[str, Any], windows: dict[tuple[str, float], Window]) -> Event:
    state = State(**table["state"] | {"phase": Phase(table["state"]["phase"])})
    judged, probed = table.get("judgement"), table.get("probe")
    return Event(
        time_seconds=table["time_seconds"],
        name=table["name"],
        state=state,
        percent=table["percent"],
        reason=table.get("reason", ""),
        judgement=None if judged is None else _judgement(judged),
        observation=_observation(table, state, windows),
        probe=None if probed is None else _probe(probed),
        is_concurrent=table.get("is_concurrent", True),
    )


def _probe(table: Mapping[str, Any]) -> Probe:
    replay, looks = table["replay"], table.get("looks", ())
    parts = {"replay": replay and Replay(**replay), "looks": tuple(Look(**look) for look in looks)}
    return Probe(**{**table, **parts})


def _judgement(table: Mapping[str, Any]) -> Judgement:
    findings = (
        Finding(
            **one
            | {name: tuple(one[name]) for name in ("candidate", "stable") if one[name]}
            | {"verdict": Verdict(one["verdict"])}
        )
        for one in table["findings"]
    )
    return Judgement(Verdict(table["verdict"]), table["reason"], tuple(findings))


def _observation(
    table: Mapping[str, Any], state: State, windows: dict[tuple[str, float], Window]
) -> Observation | None:
    """Put an observation together from what this and earlier lines wrote of the step."""
    observed = table.get("observation")
    if observed is None:
        return None
    for side in ("candidate", "stable"):
        windows.update({(side, one["start_seconds"]): _window(one) for one in observed[side]})
    since = state.since_seconds

    def of(side: str, *, is_later: bool) -> tuple[Window, ...]:
        starts = sorted(start for name, start in windows if name == side and (start >= since) is is_later)
        return tuple(windows[side, start] for start in starts)

    return Observation(
        candidate=of("candidate", is_later=True),
        stable=of("stable", is_later=table.get("is_concurrent", True)),
        until_seconds=observed["until_seconds"],
        due_seconds=observed["due_seconds"],
        is_fallback=observed["is_fallback"],
    )


def _window(table: Mapping[str, Any]) -> Window:
    parts = {
        name: Histogram(tuple(table[name]["bounds"]), tuple(table[name]["counts"]))
        for name in ("latency", "confidence", "novelty")
        if table[name] is not None
    }
    return Window(**{**table, **parts})
