"""The data plane of the fake Cloud Run: requests by Host to a revision, split by percent, and a log of all of them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.fakes.cloudrun_resources import DOMAIN, Resources, Service
from tests.fakes.cloudrun_revisions import UNAVAILABLE, Revision
from tests.fakes.cloudrun_wire import Reply, Request

NOT_FOUND = Reply(404, b"<html><title>404 Page not found</title></html>", {"Content-Type": "text/html"})
FORBIDDEN = Reply(403, b"<html><title>403 Forbidden</title></html>", {"Content-Type": "text/html"})
EVERYBODY = "allUsers"


@dataclass(frozen=True)
class Outage:
    """Requests that the platform answers 503 in a revision's place, as where the instance it chose has died.

    Attributes:
        share: of the requests: the share of the instances that are dead.
        path: of those it concerns, by how it begins.
        is_traffic_only: requests to a tag's URL are spared.
    """

    share: float = 1.0
    path: str = "/"
    is_traffic_only: bool = False


@dataclass(frozen=True)
class Served:
    """One request of the data plane; `tag` is empty for the service's own URL."""

    time: float
    service: str
    revision: str
    tag: str
    path: str
    status: int
    seconds: float


class DataPlane:
    """Sends each request to a revision.

    An instance that is dead, or breaks an answer off, is a 503 of the platform's, which its log and its counts have
    (https://cloud.google.com/run/docs/troubleshooting, "malformed response or connection to the instance had an
    error"); what is forbidden, and what no instance was free for, reaches no revision and is in neither.
    """

    def __init__(self, resources: Resources, rng: random.Random, clock: Callable[[], float] = time.time) -> None:
        self.resources, self._rng, self._clock = resources, rng, clock
        self.log: list[Served] = []
        self.outages: dict[str, Outage] = {}

    def owns(self, host: str) -> bool:
        """Whether a host belongs to a service or a tag."""
        return host.endswith("." + DOMAIN)

    async def answer(self, request: Request) -> Reply:
        """Answer a request for a service's or a tag's URL."""
        tag, _, host = request.host.rpartition("---")
        service = next((one for one in self.resources.services.values() if one.host == host), None)
        if service is None:
            return NOT_FOUND
        if not _is_public(service) and not request.headers.get("authorization", "").startswith("Bearer "):
            return FORBIDDEN
        revision = self._choose(service, tag)
        if revision is None:
            return NOT_FOUND if tag else UNAVAILABLE
        began = self._clock()
        try:
            reply = UNAVAILABLE if self._is_out(revision, request, tag) else await revision.ask(request)
        except ConnectionError:
            reply = UNAVAILABLE
        ended = self._clock()
        self.log.append(Served(ended, service.name, revision.name, tag, request.path, reply.status, ended - began))
        return reply

    def _is_out(self, revision: Revision, request: Request, tag: str) -> bool:
        outage = self.outages.get(revision.name)
        if outage is None or not request.path.startswith(outage.path) or (tag and outage.is_traffic_only):
            return False
        return self._rng.random() < outage.share

    def _choose(self, service: Service, tag: str) -> Revision | None:
        if tag:
            names = [one["revisionName"] for one in service.traffic if one.get("tag") == tag]
            return self.resources.revisions[names[0]] if names else None
        shares = [(one["revisionName"], one["percent"]) for one in service.traffic if one["percent"]]
        if not shares:
            return None
        (name,) = self._rng.choices([name for name, _ in shares], [percent for _, percent in shares])
        return self.resources.revisions[name]


def _is_public(service: Service) -> bool:
    return any(EVERYBODY in binding.get("members", []) for binding in service.policy.get("bindings", []))
