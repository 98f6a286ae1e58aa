"""Asks a revision that was just deployed who it is, and the golden rows of the bundle it is meant to serve."""

from __future__ import annotations

from google.api_core.exceptions import RetryError
from google.api_core.retry import Retry, if_exception_type

from scripts.rollout import state as states
from scripts.rollout.cloudrun import CloudRun, Services
from scripts.rollout.doors import Prober
from scripts.rollout.gate import judge_probe
from scripts.rollout.plan import Plan
from scripts.rollout.state import Phase
from scripts.rollout.verdict import Judgement, Verdict, together

# a new address and its rights are known everywhere only after a while
ANSWERS_SECONDS = 60.0


class Unfit(Exception):
    """The revision does not pass; the text says what it answered."""


class _Waiting(Exception):
    """It does not answer yet."""


def smoke(prober: Prober, url: str, digest: str, rules: Plan, *, patience_seconds: float = ANSWERS_SECONDS) -> None:
    """Ask a revision, and raise if it is not what it is meant to be.

    Args:
        prober: asks.
        url: of the revision's tag.
        digest: of the bundle it is meant to serve.
        rules: what is tolerated.
        patience_seconds: how long it may take to answer at all.

    Raises:
        Unfit: it does not answer, serves another bundle, runs on a fallback, or answers golden rows otherwise.
    """
    waiting = Retry(predicate=if_exception_type(_Waiting), initial=0.5, maximum=5, timeout=patience_seconds)

    def ask() -> Judgement:
        # nothing to compare with: that is the rollout's part
        found = [one for one in judge_probe(prober.probe(url, "", digest, 0.0), rules) if one.gate != "paired"]
        if any(one.gate == "ready" and one.verdict is not Verdict.HEALTHY for one in found):
            raise _Waiting
        return together(found)

    try:
        judgement = waiting(ask)()
    except RetryError as error:
        raise Unfit(f"{url} does not answer 200; may you call it? (roles/run.invoker)") from error
    if judgement.verdict is not Verdict.HEALTHY:
        raise Unfit(judgement.reason)


def note_unfit(services: Services, service: str, revision: str, reason: str, now_seconds: float) -> None:
    """Note that the first revision of all is unfit, so that the next one takes its place without a rollout.

    Raises:
        Conflict, Unavailable, Refused: see `Platform.write`; then it is not noted.
    """
    platform = CloudRun(services, service)
    begun = states.new(revision, revision, "canary", now_seconds, holder="deploy")
    state = begun.at(Phase.ROLLED_BACK, now_seconds, reason)
    found = platform.read()
    platform.write(states.noted(found, state))
