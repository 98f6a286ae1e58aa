"""What the fake Cloud Run knows: services, their revisions and their traffic, as Knative's serving API shapes them."""

from __future__ import annotations

import copy
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.cloudrun_revisions import Revision
from tests.fakes.cloudrun_wire import Refused

DOMAIN = "a.run.test"
SUFFIX = "x7k2-uc"
NOT_STARTED = (
    "Revision '{name}' is not ready and cannot serve traffic. The user-provided container failed to start and listen "
    "on the port defined provided by the PORT=8080 environment variable within the allocated timeout."
)


@dataclass
class Service:
    """One service: what was asked for (`metadata`, `spec`) and what is (`traffic`, `ready`)."""

    name: str
    namespace: str
    metadata: dict[str, Any]
    spec: dict[str, Any]
    version: int = 1
    generation: int = 1
    traffic: list[dict[str, Any]] = field(default_factory=list)
    latest_created: str = ""
    latest_ready: str = ""
    policy: dict[str, Any] = field(default_factory=dict)

    @property
    def host(self) -> str:
        """Host of its own URL."""
        return f"{self.name}-{SUFFIX}.{DOMAIN}"

    def touch(self) -> None:
        """Give it a new resourceVersion."""
        self.version += 1


class Resources:
    """All services and revisions, and the rules by which requests change them."""

    def __init__(self) -> None:
        self.services: dict[str, Service] = {}
        self.revisions: dict[str, Revision] = {}

    def find(self, name: str) -> Service:
        """Return a service; `Refused` (404) where there is none."""
        if name not in self.services:
            raise Refused(404, f"Resource '{name}' of kind 'SERVICE' in region 'us-central1' does not exist.")
        return self.services[name]

    def create(self, namespace: str, body: Mapping[str, Any]) -> Service:
        """Make a service; `Refused` (409) when it exists."""
        name = body["metadata"]["name"]
        if name in self.services:
            raise Refused(409, f"Resource '{name}' already exists.")
        service = Service(name, namespace, {}, {})
        self._apply(service, body)
        self.services[name] = service
        return service

    def replace(self, name: str, body: Mapping[str, Any]) -> Service:
        """Replace a service, if it is still the version the caller read; `Refused` (409) else."""
        service = self.find(name)
        given = body["metadata"].get("resourceVersion")
        if given and given != str(service.version):
            raise Refused(
                409,
                f"Conflict for resource '{name}': version '{given}' was specified but current version is "
                f"'{service.version}'.",
            )
        before = copy.deepcopy(service.spec)
        self._apply(service, body)
        service.touch()
        service.generation += service.spec != before
        return service

    def set_traffic(self, name: str, shares: Mapping[str, int]) -> None:
        """Move traffic as a person at the console does: past everybody's version; tags stay."""
        service = self.find(name)
        tags = [target for target in service.spec["traffic"] if target.get("tag")]
        moved = [{"revisionName": revision, "percent": percent} for revision, percent in shares.items()]
        service.spec["traffic"] = moved + [
            {key: value for key, value in target.items() if key != "percent"} for target in tags
        ]
        service.generation += 1
        service.touch()
        self.settle(service)

    def _apply(self, service: Service, body: Mapping[str, Any]) -> None:
        spec = copy.deepcopy(dict(body["spec"]))
        template = spec["template"]
        _validate(template)
        changed = json.dumps(template, sort_keys=True) != json.dumps(service.spec.get("template"), sort_keys=True)
        revision = self._revision(service, template) if changed else None
        spec["traffic"] = spec.get("traffic") or [{"latestRevision": True, "percent": 100}]
        created = {revision.name} if revision else set()
        _validate_traffic(spec["traffic"], set(self.revisions) | created)
        kept = {"annotations", "labels"}
        service.metadata = {key: copy.deepcopy(value) for key, value in body["metadata"].items() if key in kept}
        service.spec = spec
        if revision:
            self.revisions[revision.name] = revision
            service.latest_created = revision.name
        self.settle(service)

    def _revision(self, service: Service, template: Mapping[str, Any]) -> Revision:
        name = template.get("metadata", {}).get("name")
        if name in self.revisions:
            raise Refused(409, f"Revision named '{name}' with different configuration already exists.")
        number = 1 + sum(one.service == service.name for one in self.revisions.values())
        name = name or f"{service.name}-{number:05d}-{secrets.token_hex(2)[:3]}"
        return Revision(name, service.name, copy.deepcopy(dict(template)))

    def settle(self, service: Service) -> None:
        """Bring a service's traffic to what was asked for, unless a revision in it is not ready."""
        created = self.revisions.get(service.latest_created)
        if created and created.state == "ready":
            service.latest_ready = created.name
        wanted = []
        for target in service.spec["traffic"]:
            name = service.latest_ready if target.get("latestRevision") else target["revisionName"]
            wanted.append({**target, "revisionName": name, "percent": target.get("percent", 0)})
        if all(one["revisionName"] and self.revisions[one["revisionName"]].was_ready for one in wanted):
            service.traffic = wanted

    def condition(self, service: Service) -> tuple[str, str]:
        """Return the status of the condition Ready, and its message."""
        names = {service.latest_created} | {one.get("revisionName", "") for one in service.spec["traffic"]}
        states = {name: self.revisions[name].state for name in names if name}
        failed = [name for name, state in states.items() if state == "failed"]
        if failed:
            return "False", NOT_STARTED.format(name=failed[0])
        if "starting" in states.values():
            return "Unknown", "Deploying revision."
        return "True", ""


def _validate(template: Mapping[str, Any]) -> None:
    for container in template["spec"]["containers"]:
        if "runAsNonRoot" in container.get("securityContext", {}):
            raise Refused(400, "spec.template.spec.containers[0].security_context.run_as_non_root: is not supported")
        for probe in ("startupProbe", "livenessProbe"):
            found = container.get(probe, {})
            if found and found.get("timeoutSeconds", 1) > found.get("periodSeconds", 10):
                raise Refused(400, f"spec.template.spec.containers[0].{probe}: timeoutSeconds exceeds periodSeconds")


def _validate_traffic(targets: list[dict[str, Any]], revisions: set[str]) -> None:
    for target in targets:
        name = target.get("revisionName")
        if name and target.get("latestRevision"):
            raise Refused(400, "spec.traffic: revision_name and latest_revision are mutually exclusive")
        if not target.get("latestRevision") and name not in revisions:
            raise Refused(400, f"spec.traffic: Revision '{name}' does not exist")
    total = sum(target.get("percent", 0) for target in targets)
    if total != 100:
        raise Refused(400, f"spec.traffic: the sum of the percents must be 100, found {total}")
    tags = [target["tag"] for target in targets if target.get("tag")]
    if len(tags) != len(set(tags)):
        raise Refused(400, "spec.traffic: tags must be unique")
