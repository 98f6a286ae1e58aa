"""Asks revisions real questions over HTTP: who they are, and the golden rows."""

from __future__ import annotations

import itertools
import json
import secrets
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import requests.exceptions
import urllib3.exceptions
from numpy.typing import NDArray

from model.manifest import Manifest
from scripts.rollout.doors import Asked
from scripts.rollout.gate import Look, Probe, Replay

TIMEOUT_SECONDS = (5.0, 30.0)
# a look must not last: what takes so long is as good as dead
LOOK_TIMEOUT_SECONDS = (3.0, 5.0)
# an answer may never end
ANSWER_BYTES, PIECE_BYTES = 16 << 20, 1 << 16
LOOK_ROWS = 8
# requests whose id begins so are no traffic to the service (`service/ways.py`)
LOOK_ID = "rookery-look-"
# of our own requests to one address so many are remembered: more than a day's
ASKED_MAX = 100_000
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
        self,
        golden: GoldenRows,
        session: Any,
        token: Callable[[], str | None],
        *,
        tolerance: float = 0.0,
        look_timeout: tuple[float, float] = LOOK_TIMEOUT_SECONDS,
    ) -> None:
        """Prepare.

        Args:
            golden: of the bundle that the candidate is meant to serve.
            session: sends requests.
            token: returns an identity token for the service, None where it is open to everybody.
            tolerance: of probabilities, where it is larger than the bundle's own.
            look_timeout: of the requests of a look: seconds to connect, and in which something must come.
        """
        self._look_timeout = look_timeout
        self._golden, self._session, self._token = golden, session, token
        self._tolerance = max(golden.tolerance, tolerance)
        self._turns = itertools.cycle(golden.rows)
        self._numbers = itertools.cycle(range(len(golden.rows)))
        self._asked: defaultdict[str, deque[Asked]] = defaultdict(lambda: deque(maxlen=ASKED_MAX))

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
        is_ready = self._json("GET", url, "/health/ready") is not None
        return _identity(self._json("GET", url, "/model") if is_ready else None, digest, waited_seconds)

    def look(self, url: str, digest: str) -> Probe:
        """See `doors.Prober`; all at once, as a dead instance may hold each request for seconds."""
        numbers = list(itertools.islice(self._numbers, min(LOOK_ROWS, len(self._golden.rows))))
        # renewed once, and made once, before several threads use them
        self._token(), self._asked[url]
        with ThreadPoolExecutor(len(numbers) + 1) as pool:
            identity = pool.submit(self._identify, url, digest)
            rows = [[self._golden.rows[number]] for number in numbers]
            answers = list(pool.map(lambda row: self._predict(url, row, timeout=self._look_timeout), rows))
            found = identity.result()
        known = [(mine, self._golden.probabilities[number]) for mine, number in zip(answers, numbers, strict=True)]
        wrong = sum(not _is_close(mine[0], right, self._tolerance) for mine, right in known if mine is not None)
        answered = sum(mine is not None for mine in answers)
        return replace(found, looks=(Look(len(numbers), answered, wrong, found.is_ready),))

    def _identify(self, url: str, digest: str) -> Probe:
        """Ask who the candidate is, each question a second time where it was not answered."""
        model: Mapping[str, Any] | None = None
        for path in ("/health/ready", "/model"):
            asked = (self._json("GET", url, path, timeout=self._look_timeout) for _ in range(2))
            model = next((found for found in asked if found is not None), None)
            if model is None:
                break
        return _identity(model, digest, 0.0)

    def asked(self, url: str) -> Sequence[Asked]:
        """See `doors.Prober`."""
        return tuple(self._asked[url])

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
            answered = self._predict(candidate_url if is_candidates else stable_url, [row], is_traffic=True)
            sent += is_candidates and answered is not None
        return sent

    def _commit(self, url: str) -> str:
        version = self._json("GET", url, "/version")
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

    def _predict(
        self,
        url: str,
        rows: Sequence[Sequence[float | str | None]],
        *,
        timeout: tuple[float, float] = TIMEOUT_SECONDS,
        is_traffic: bool = False,
    ) -> Probabilities | None:
        asked = {"features": self._golden.features, "instances": rows}
        body = self._json("POST", url, "/predict", asked, timeout=timeout, is_traffic=is_traffic)
        try:
            answers = [[one["probabilities"][name] for name in self._golden.classes] for one in body["predictions"]]  # type: ignore[index]
            found = np.array(answers, dtype=np.float64)
        except (KeyError, TypeError, ValueError):
            return None
        return found if found.shape == (len(rows), len(self._golden.classes)) else None

    def _json(
        self,
        method: str,
        url: str,
        path: str,
        body: object = None,
        *,
        timeout: tuple[float, float] = TIMEOUT_SECONDS,
        is_traffic: bool = False,
    ) -> Mapping[str, Any] | None:
        headers = {} if is_traffic else {"X-Request-Id": f"{LOOK_ID}{secrets.token_hex(16)}"}
        status, found = _ask(self._session, method, url + path, self._token(), body, headers=headers, timeout=timeout)
        if status and not is_traffic:
            self._asked[url].append(Asked(time.time(), f"{status // 100}xx"))
        return found


def is_alive(session: Any, url: str, token: str | None) -> str:
    """Return an empty text if a service says that it is ready, else why it is not alive."""
    if _ask(session, "GET", f"{url}/health/ready", token)[1] is None:
        return f"{url}/health/ready does not answer 200"
    return ""


def _ask(
    session: Any,
    method: str,
    url: str,
    token: str | None,
    body: object = None,
    *,
    headers: Mapping[str, str] | None = None,
    timeout: tuple[float, float] = TIMEOUT_SECONDS,
) -> tuple[int, Mapping[str, Any] | None]:
    """Return the status, 0 where there was no answer, and the JSON object of a 200, else None.

    Args:
        session: sends requests.
        method: of HTTP.
        url: what is asked.
        token: an identity token, None for none.
        body: sent as JSON, None for none.
        headers: further ones.
        timeout: seconds to connect, and in which something must come; the whole body may take twice as long.
    """
    given = {"Authorization": f"Bearer {token}"} if token else {}
    status, deadline = 0, time.monotonic() + sum(timeout) + timeout[1]
    try:
        with session.request(
            method, url, json=body, headers=given | dict(headers or {}), timeout=timeout, stream=True
        ) as reply:
            status, pieces, size = reply.status_code, [], 0
            while status == 200 and (piece := reply.raw.read1(PIECE_BYTES, decode_content=True)):
                pieces.append(piece)
                size += len(piece)
                if size > ANSWER_BYTES or time.monotonic() > deadline:
                    return status, None
            found = json.loads(b"".join(pieces)) if status == 200 else None
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, ValueError):
        return status, None
    return status, found if isinstance(found, dict) else None


def _identity(model: Mapping[str, Any] | None, digest: str, waited_seconds: float) -> Probe:
    """Return a probe from what `/model` answered, None where that or `/health/ready` did not."""
    if model is None:
        return Probe(digest, None, False, waited_seconds, False)
    served = model.get("digest")
    return Probe(digest, str(served) if served else None, True, waited_seconds, bool(model.get("fallback")))


def _is_close(mine: Probabilities, known: Probabilities, tolerance: float) -> NDArray[np.bool_]:
    """Return which rows are answered as known: what is no number is not; shapes (..., k)."""
    close: NDArray[np.bool_] = np.abs(mine - known).max(axis=-1) <= tolerance
    return close


def compare(mine: Probabilities, known: Probabilities, theirs: Probabilities | None, tolerance: float) -> Replay:
    """Compare the candidate's answers with the known ones, and with the stable revision's.

    Args:
        mine: shape (g, k).
        known: shape (g, k).
        theirs: shape (g, k), None where the stable revision does not answer these rows: another contract, or no answer.
        tolerance: of a probability.
    """
    differences = int((~_is_close(mine, known, tolerance)).sum())
    if theirs is None:
        return Replay(len(mine), differences, 0, 0, 0.0)
    was, now = theirs.argmax(axis=1), mine.argmax(axis=1)
    each = np.arange(len(mine))
    shift = float(np.abs(mine[each, was] - theirs[each, was]).mean())
    return Replay(len(mine), differences, len(mine), int((was != now).sum()), shift)
