"""Puts one release on Cloud Run: a new revision at 0 % with the tag `candidate`, waited for until it is ready."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from google.api_core.exceptions import RetryError
from google.api_core.retry import Retry, if_exception_type

from scripts.deploy.release import CANDIDATE, Release, beside, fill, is_first
from scripts.rollout import cloudrun
from scripts.rollout.cloudrun import Services
from scripts.rollout.platform import Conflict, PlatformError, Unavailable

READY_SECONDS = 300.0


class Deployed(NamedTuple):
    """What was deployed.

    Attributes:
        url: the service's.
        candidate_url: of the tag `candidate`, the new revision's.
        is_first: nothing served before, so that the new revision has all the traffic.
    """

    url: str
    candidate_url: str
    is_first: bool


class NotReady(PlatformError):
    """The new revision does not get ready; traffic is where it was."""


class _Waiting(Exception):
    """Neither ready nor failed yet."""


def deploy(services: Services, template: Mapping[str, Any], release: Release) -> Deployed:
    """Write the service with the new revision in it and wait for the revision.

    Args:
        services: Cloud Run.
        template: the service file.
        release: what goes into it.

    Raises:
        Conflict: somebody else changed the service meanwhile; nothing was done.
        NotReady: the revision failed, or nobody knows after five minutes.
        PlatformError: Cloud Run refused it or does not answer.
    """
    existing = services.get(release.service)
    body = beside(fill(template, release), existing)
    try:
        _write(services, body, is_new=existing is None)
    except Unavailable:
        # it may have been done all the same
        found = services.get(release.service)
        if found is None or not _has(found, release.revision):
            raise
    url, candidate_url = _await_ready(services, release)
    return Deployed(url, candidate_url, is_first(existing))


def _write(services: Services, body: dict[str, Any], *, is_new: bool) -> None:
    if is_new:
        services.create(body)
        return
    try:
        services.replace(body)
    except Conflict:
        # a revision that got ready moves the version too; if traffic is where it was, nobody decided anything
        fresh = services.get(body["metadata"]["name"])
        if fresh is None:
            raise
        again = beside(body, fresh)
        if again["spec"]["traffic"] != body["spec"]["traffic"]:
            raise
        services.replace(again)


def _await_ready(services: Services, release: Release) -> tuple[str, str]:
    waiting = Retry(
        predicate=if_exception_type(_Waiting), initial=0.2, maximum=2, multiplier=1.5, timeout=READY_SECONDS
    )
    try:
        url, candidate = waiting(_look)(services, release)
    except RetryError as error:
        raise NotReady(f"{release.revision} is not ready after {READY_SECONDS:.0f} s; see its log") from error
    return url, candidate


def _look(services: Services, release: Release) -> tuple[str, str]:
    found = services.get(release.service)
    if found is None or not _has(found, release.revision):
        raise Conflict(f"{release.service}: somebody else deployed meanwhile")
    state = cloudrun.condition(found)
    if state.get("status") == "False":
        raise NotReady(state.get("message") or f"{release.revision} failed; see its log")
    service = cloudrun.to_service(found)
    if not any(one.tag == CANDIDATE and one.revision == release.revision for one in service.asked or ()):
        remedy = f"if it is meant all the same: python -m scripts.rollout run --candidate {release.revision}"
        raise NotReady(f"the tag {CANDIDATE} was taken from {release.revision} before it was ready; {remedy}")
    tagged = [one.url for one in service.traffic if one.tag == CANDIDATE and one.revision == release.revision]
    if not service.settled or not tagged:
        raise _Waiting
    return service.url, tagged[0]


def _has(found: Mapping[str, Any], revision: str) -> bool:
    return bool(found["spec"]["template"].get("metadata", {}).get("name") == revision)
