"""The control plane of the fake Cloud Run: the routes of the Admin API v1 that gcloud and our controller use."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.fakes.cloudrun_resources import DOMAIN, SUFFIX, Resources, Service
from tests.fakes.cloudrun_revisions import Revision
from tests.fakes.cloudrun_wire import Refused, Reply, Request

API = "serving.knative.dev/v1"
SERVICES = re.compile(rf"/apis/{API}/namespaces/([^/]+)/services(?:/([^/]+))?")
REVISIONS = re.compile(rf"/apis/{API}/namespaces/([^/]+)/revisions(?:/([^/]+))?")
POLICY = re.compile(r"/v[12]/projects/[^/]+/locations/[^/]+/services/([^/:]+):(get|set)IamPolicy")


@dataclass(frozen=True)
class Fault:
    """One request of the control plane that goes wrong, or that something happens around.

    Attributes:
        status: what is answered; 0 answers as always.
        method: requests it takes; empty takes all.
        times: requests it takes before it is used up.
        applies: whether the request has done its work all the same.
        before: called before the request is looked at, such as a person who moves traffic in between.
    """

    status: int = 503
    method: str = "PUT"
    times: int = 1
    applies: bool = False
    before: Callable[[], object] | None = None


class Api:
    """Answers the control plane's requests."""

    def __init__(self, resources: Resources, launch: Callable[[Revision], None]) -> None:
        """Prepare; `launch` is called with each new revision."""
        self.resources, self._launch = resources, launch
        self.faults: list[list[Any]] = []

    def fail(self, fault: Fault) -> None:
        """Queue a fault."""
        self.faults.append([fault, fault.times])

    def answer(self, request: Request) -> Reply:
        """Answer one request, rightly or as the next matching fault wants it."""
        fault = self._take(request.method)
        if fault and fault.before:
            fault.before()
        if fault and fault.status and not fault.applies:
            return Refused(fault.status, "injected: the request was not applied").reply()
        try:
            reply = self._route(request)
        except Refused as refusal:
            return refusal.reply()
        if fault and fault.status:
            return Refused(fault.status, "injected: an internal error has occurred").reply()
        return reply

    def _take(self, method: str) -> Fault | None:
        for entry in self.faults:
            fault: Fault = entry[0]
            if fault.method in ("", method):
                entry[1] -= 1
                if not entry[1]:
                    self.faults.remove(entry)
                return fault
        return None

    def _route(self, request: Request) -> Reply:
        if not request.headers.get("authorization", "").startswith("Bearer "):
            raise Refused(401, "Request is missing required authentication credential.")
        if found := SERVICES.fullmatch(request.path):
            return self._services(request, *found.groups())
        if found := REVISIONS.fullmatch(request.path):
            return self._revisions(request, found[2])
        if found := POLICY.fullmatch(request.path):
            return self._policy(request, *found.groups())
        raise Refused(404, f"no such route in the fake: {request.method} {request.path}")

    def _services(self, request: Request, namespace: str, name: str | None) -> Reply:
        if request.method == "GET" and name is None:
            items = [self.show(one) for one in self.resources.services.values()]
            return Reply.json({"apiVersion": API, "kind": "ServiceList", "items": items, "metadata": {}})
        if request.method == "GET" and name:
            return Reply.json(self.show(self.resources.find(name)))
        if request.method not in ("POST", "PUT"):
            raise Refused(404, f"no {request.method} of services in the fake")
        if request.query.get("dryRun"):
            return Reply.json(request.json())
        known = set(self.resources.revisions)
        if name is None:
            service = self.resources.create(namespace, request.json())
        else:
            service = self.resources.replace(name, request.json())
        for new in set(self.resources.revisions) - known:
            self._launch(self.resources.revisions[new])
        return Reply.json(self.show(service))

    def _revisions(self, request: Request, name: str | None) -> Reply:
        if name:
            if name not in self.resources.revisions:
                raise Refused(404, f"Resource '{name}' of kind 'REVISION' does not exist.")
            return Reply.json(show_revision(self.resources.revisions[name]))
        wanted = re.search(r"serving\.knative\.dev/service\s*=\s*(\S+)", request.query.get("labelSelector", ""))
        found = [one for one in self.resources.revisions.values() if not wanted or one.service == wanted[1]]
        items = [show_revision(one) for one in reversed(found)]
        return Reply.json({"apiVersion": API, "kind": "RevisionList", "items": items, "metadata": {}})

    def _policy(self, request: Request, name: str, verb: str) -> Reply:
        service = self.resources.find(name)
        if verb == "set":
            service.policy = {**request.json()["policy"], "etag": "BwX="}
        return Reply.json(service.policy or {"version": 1, "etag": "BwX="})

    def show(self, service: Service) -> dict[str, Any]:
        """Return a service as the API shows it."""
        ready, message = self.resources.condition(service)
        conditions = [{"type": kind, "status": ready} for kind in ("Ready", "ConfigurationsReady", "RoutesReady")]
        if message:
            reason = "HealthCheckContainerError" if ready == "False" else "Deploying"
            conditions = [{**one, "reason": reason, "message": message} for one in conditions]
        return {
            "apiVersion": API,
            "kind": "Service",
            "metadata": {
                **service.metadata,
                "name": service.name,
                "namespace": service.namespace,
                "uid": f"uid-{service.name}",
                "resourceVersion": str(service.version),
                "generation": service.generation,
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {**service.metadata.get("labels", {}), "cloud.googleapis.com/location": "us-central1"},
            },
            "spec": service.spec,
            "status": {
                "observedGeneration": service.generation,
                "conditions": conditions,
                "latestCreatedRevisionName": service.latest_created,
                "latestReadyRevisionName": service.latest_ready,
                "traffic": [_show_target(service, one) for one in service.traffic],
                "url": f"http://{service.host}",
                "address": {"url": f"http://{service.host}"},
            },
        }


def _show_target(service: Service, target: dict[str, Any]) -> dict[str, Any]:
    # zero percent is left out, as Google's JSON leaves out what has its default
    shown = {key: value for key, value in target.items() if key != "percent" or value}
    if target.get("tag"):
        shown["url"] = f"http://{target['tag']}---{service.name}-{SUFFIX}.{DOMAIN}"
    return shown


def show_revision(revision: Revision) -> dict[str, Any]:
    """Return a revision as the API shows it."""
    status = {"ready": "True", "failed": "False", "starting": "Unknown"}[revision.state]
    metadata = revision.template.get("metadata", {})
    created = datetime.fromtimestamp(revision.created, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {
        "apiVersion": API,
        "kind": "Revision",
        "metadata": {
            "name": revision.name,
            "namespace": "demo",
            "generation": 1,
            "creationTimestamp": created,
            "labels": {**metadata.get("labels", {}), "serving.knative.dev/service": revision.service},
            "annotations": metadata.get("annotations", {}),
        },
        "spec": revision.template["spec"],
        "status": {
            "observedGeneration": 1,
            "imageDigest": revision.image,
            "conditions": [{"type": kind, "status": status} for kind in ("Ready", "ContainerHealthy", "Active")],
        },
    }
