"""Asks revisions real questions over HTTP: who they are, and the golden rows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import requests.exceptions
from numpy.typing import NDArray

from model.manifest import Manifest
from scripts.rollout.gate import Probe, Replay

TIMEOUT_SECONDS = (5, 30)
ROWS_AT_ONCE = 100
# golden rows sent to the candidate at each look, where a step has too few requests of its own
SYNTHETIC_ROWS = 50

Probabilities = NDArray[np.float64]


@dataclass(frozen=True)
class GoldenRows:
    """Rows as the service takes them, and what they are to be answered.

    Attributes:
        features: names of the columns.
        rows: values in the order of the columns, categories as text.
        classes: in the order of the columns of `probabilities`.
        probabilities: shape (g, k).
        tolerance: largest difference that is none.
    """

    features: tuple[str, ...]
    rows: tuple[tuple[float | str | None, ...], ...]
    classes: tuple[str, ...]
    probabilities: Probabilities
    tolerance: float


def golden_rows(manifest: Manifest) -> GoldenRows:
    """Return a manifest's golden rows; it was verified by `model.verify`."""
    golden = manifest.golden
    rows = tuple(
        tuple(
            feature.values[int(value)] if feature.is_category and value is not None else value
            for feature, value in zip(manifest.features, row, strict=True)
        )
        for row in golden.rows
    )
    known = np.array(golden.probabilities, dtype=np.float64)
    return GoldenRows(manifest.feature_names, rows, tuple(manifest.classes), known, golden.tolerance)


class HttpProber:
    """Asks over HTTP."""

    def __init__(
        self, golden: GoldenRows, session: Any, token: Callable[[], str | None], *, tolerance: float = 0.0
    ) -> None:
        """Prepare.

        Args:
            golden: of the bundle that the candidate is meant to serve.
            session: sends requests.
            token: returns an identity token for the service, None where it is open to everybody.
            tolerance: of probabilities, where it is larger than the bundle's own.
        """
        self._golden, self._session, self._token = golden, session, token
        self._tolerance = max(golden.tolerance, tolerance)
        self._turns = itertools.cycle(golden.rows)

    def probe(self, candidate_url: str, stable_url: str, digest: str, waited_seconds: float) -> Probe:
        """See `doors.Prober`."""
        found = self.identify(candidate_url, digest, waited_seconds)
        if not found.is_ready:
            return found
        mine = self._answers(candidate_url)
        if mine is None:
            return replace(found, is_ready=False)
        replay = compare(mine, self._golden.probabilities, self._answers(stable_url), self._tolerance)
        return replace(found, replay=replay, commit=self._commit(candidate_url), stable_commit=self._commit(stable_url))

    def identify(self, url: str, digest: str, waited_seconds: float = 0.0) -> Probe:
        """See `doors.Prober`."""
        ready, model = self._json("GET", f"{url}/health/ready"), self._json("GET", f"{url}/model")
        if ready is None or model is None:
            return Probe(digest, None, False, waited_seconds, False)
        served = model.get("digest")
        return Probe(digest, str(served) if served else None, True, waited_seconds, bool(model.get("fallback")))

    def verify(self, url: str) -> str:
        """See `doors.Prober`."""
        if trouble := is_alive(self._session, url, self._token()):
            return trouble
        if self._predict(url, self._golden.rows[:1]) is None:
            return f"{url}/predict does not answer a golden row"
        return ""

    def synthesize(self, candidate_url: str, stable_url: str, percent: int) -> int:
        """See `doors.Prober`; one row a request, mixed as the traffic of the step is, so that it shifts nothing."""
        sent = 0
        rows = list(itertools.islice(self._turns, round(SYNTHETIC_ROWS * 100 / percent)))
        for index, row in enumerate(rows):
            is_candidates = index * percent // 100 != (index + 1) * percent // 100
            answered = self._predict(candidate_url if is_candidates else stable_url, [row])
            sent += is_candidates and answered is not None
        return sent

    def _commit(self, url: str) -> str:
        version = self._json("GET", f"{url}/version")
        return str(version.get("commit") or "") if version else ""

    def _answers(self, url: str) -> Probabilities | None:
        """Return the probabilities of all golden rows, None if one is not answered by the same classes."""
        parts = []
        for begin in range(0, len(self._golden.rows), ROWS_AT_ONCE):
            part = self._predict(url, self._golden.rows[begin : begin + ROWS_AT_ONCE])
            if part is None:
                return None
            parts.append(part)
        return np.concatenate(parts) if parts else None

    def _predict(self, url: str, rows: Sequence[Sequence[float | str | None]]) -> Probabilities | None:
        body = self._json("POST", f"{url}/predict", {"features": self._golden.features, "instances": rows})
        try:
            answers = [[one["probabilities"][name] for name in self._golden.classes] for one in body["predictions"]]  # type: ignore[index]
            found = np.array(answers, dtype=np.float64)
        except (KeyError, TypeError, ValueError):
            return None
        return found if found.shape == (len(rows), len(self._golden.classes)) else None

    def _json(self, method: str, url: str, body: object = None) -> Mapping[str, Any] | None:
        return _ask(self._session, method, url, self._token(), body)


def is_alive(session: Any, url: str, token: str | None) -> str:
    """Return an empty text if a service says that it is ready, else why it is not alive."""
    if _ask(session, "GET", f"{url}/health/ready", token) is None:
        return f"{url}/health/ready does not answer 200"
    return ""


def _ask(session: Any, method: str, url: str, token: str | None, body: object = None) -> Mapping[str, Any] | None:
    """Return the JSON object of a 200, else None."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        reply = session.request(method, url, json=body, headers=headers, timeout=TIMEOUT_SECONDS)
        found = reply.json() if reply.status_code == 200 else None
    except (requests.exceptions.RequestException, ValueError):
        return None
    return found if isinstance(found, dict) else None


def compare(mine: Probabilities, known: Probabilities, theirs: Probabilities | None, tolerance: float) -> Replay:
    """Compare the candidate's answers with the known ones, and with the stable revision's.

    Args:
        mine: shape (g, k).
        known: shape (g, k).
        theirs: shape (g, k), None where the stable revision does not answer these rows: another contract, or no answer.
        tolerance: of a probability.
    """
    differences = int((~(np.abs(mine - known).max(axis=1) <= tolerance)).sum())
    if theirs is None:
        return Replay(len(mine), differences, 0, 0, 0.0)
    was, now = theirs.argmax(axis=1), mine.argmax(axis=1)
    each = np.arange(len(mine))
    shift = float(np.abs(mine[each, was] - theirs[each, was]).mean())
    return Replay(len(mine), differences, len(mine), int((was != now).sum()), shift)
