"""The one door to Cloud Run: its Admin API v1, written to with compare-and-swap.

Version 1 is what gcloud speaks and what service files are written in, so that all three mean the same object.
gcloud itself overwrites: it fetches the newest `resourceVersion` right before it writes.  Here a write carries the
version its decision was made on, and loses if somebody else was quicker.
See https://cloud.google.com/run/docs/reference/rest/v1/namespaces.services.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import google.auth.exceptions
import requests.exceptions
from google.api_core.exceptions import RetryError
from google.api_core.retry import Retry, if_exception_type

from scripts.rollout.platform import Conflict, Refused, Service, Target, Unavailable

OVERRIDE = "CLOUDSDK_API_ENDPOINT_OVERRIDES_RUN"
TIMEOUT_SECONDS = (5, 30)
UNSURE = (408, 429, 500, 502, 503, 504)
# what Cloud Run keeps for itself among the annotations
RESERVED = ("run.googleapis.com/", "serving.knative.dev/", "client.knative.dev/", "autoscaling.knative.dev/")


@dataclass(frozen=True)
class Place:
    """Where services live: project, region, and the API's address there."""

    project: str
    region: str
    address: str

    @classmethod
    def of(cls, project: str, region: str, env: Mapping[str, str]) -> Place:
        """Name a place; the same variable moves gcloud and us to another endpoint, by the same rule."""
        parts = urlsplit(env.get(OVERRIDE) or "https://run.googleapis.com/")
        return cls(project, region, urlunsplit((parts.scheme, f"{region}-{parts.netloc}", "", "", "")))


class Services:
    """Cloud Run's services as the API shows them."""

    def __init__(self, place: Place, session: Any, *, patience_seconds: float = 30) -> None:
        """Prepare.

        Args:
            place: project and region.
            session: sends requests with credentials, see `credentials.session`.
            patience_seconds: how long a reading is tried again; a writing never is.
        """
        self._session = session
        self._address = f"{place.address}/apis/serving.knative.dev/v1/namespaces/{place.project}/services"
        predicate = if_exception_type(Unavailable)
        self._retry = Retry(predicate=predicate, initial=0.2, maximum=2, multiplier=2, timeout=patience_seconds)

    def get(self, name: str) -> dict[str, Any] | None:
        """Return a service, or None if there is none.

        Raises:
            Unavailable: the API did not answer for the whole time.
            Refused: we may not read it.
        """
        try:
            found: dict[str, Any] | None = self._retry(self._get)(name)
        except RetryError as error:
            raise Unavailable(str(error.cause)) from error
        return found

    def _get(self, name: str) -> dict[str, Any] | None:
        reply = self._send("GET", f"{self._address}/{name}")
        return None if reply.status_code == 404 else _read(reply)

    def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make a service.

        Raises:
            Conflict: there is one of the name.
            Unavailable: it may have been made all the same.
            Refused: it was not made.
        """
        return _read(self._send("POST", self._address, body))

    def replace(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Replace a service if it is still the version in the body's metadata.

        Raises:
            Conflict: it is another one; nothing was changed.
            Unavailable: it may have been done all the same.
            Refused: it was not done.
        """
        return _read(self._send("PUT", f"{self._address}/{body['metadata']['name']}", body))

    def _send(self, method: str, url: str, body: Mapping[str, Any] | None = None) -> Any:
        try:
            reply = self._session.request(method, url, json=body, timeout=TIMEOUT_SECONDS)
        except (requests.exceptions.RequestException, google.auth.exceptions.TransportError) as error:
            raise Unavailable(f"{method} {url}: {error}") from error
        except google.auth.exceptions.GoogleAuthError as error:
            raise Refused(f"no access to Cloud Run: {error}") from error
        if reply.status_code in UNSURE:
            raise Unavailable(f"{method} {url}: {reply.status_code} {_message(reply)}")
        return reply


class CloudRun:
    """The platform that the controller moves traffic on: one service."""

    def __init__(self, services: Services, name: str) -> None:
        """Prepare for the service of a name."""
        self._services, self._name = services, name
        self._seen: dict[str, dict[str, Any]] = {}

    def read(self) -> Service:
        """Return the service as it is; see `Platform.read`."""
        return self._remember(self._find())

    def write(self, service: Service) -> Service:
        """Set traffic and annotations if nobody else did since `service.etag`; see `Platform.write`.

        Cloud Run gives a service a new version also when a revision becomes ready.
        That is nobody's decision, so it is no conflict: the write goes out once more, on the new version.
        """
        base = self._seen.get(service.etag)
        if base is None:
            raise Conflict(f"{self._name}: version {service.etag} was never read here")
        try:
            return self._remember(self._services.replace(_with(base, service)))
        except Conflict:
            fresh = self._find()
            if fresh["metadata"]["resourceVersion"] == service.etag or not same_intent(fresh, base):
                raise
            return self._remember(self._services.replace(_with(fresh, service)))

    def _find(self) -> dict[str, Any]:
        found = self._services.get(self._name)
        if found is None:
            raise Refused(f"there is no service {self._name}; deploy it first: make deploy")
        return found

    def _remember(self, found: dict[str, Any]) -> Service:
        service = to_service(found)
        self._seen = {**dict(list(self._seen.items())[-3:]), service.etag: found}
        return service


def to_service(found: Mapping[str, Any]) -> Service:
    """Return the API's service as a value; its traffic is what is served, not what was asked for."""
    status = found["status"]
    asked, served = found["spec"].get("traffic", []), status.get("traffic", [])
    return Service(
        name=found["metadata"]["name"],
        etag=found["metadata"]["resourceVersion"],
        url=status.get("url", ""),
        traffic=_targets(served),
        annotations=_own(found),
        latest_ready_revision=status.get("latestReadyRevisionName", ""),
        settled=is_ready(found) and _shares(asked) == _shares(served),
        asked=_targets(asked) if asked else None,
        latest_created_revision=status.get("latestCreatedRevisionName", ""),
        failed=condition(found).get("status") == "False",
    )


def _targets(entries: list[dict[str, Any]]) -> tuple[Target, ...]:
    return tuple(
        Target(
            revision=one.get("revisionName", ""),
            percent=one.get("percent", 0),
            tag=one.get("tag", ""),
            url=one.get("url", ""),
            latest=one.get("latestRevision", False),
        )
        for one in entries
    )


def is_ready(found: Mapping[str, Any]) -> bool:
    """Whether what was asked for last is there and works."""
    status = found["status"]
    is_current = status.get("observedGeneration") == found["metadata"]["generation"]
    return is_current and condition(found).get("status") == "True"


def condition(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the condition Ready of a service, with `status`, `reason` and `message`; empty if there is none yet."""
    return next((one for one in found["status"].get("conditions", []) if one["type"] == "Ready"), {})


def same_intent(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether two states of a service ask for the same: traffic, template and annotations."""
    return found["spec"] == wanted["spec"] and _own(found) == _own(wanted)


def _own(body: Mapping[str, Any]) -> dict[str, str]:
    annotations = body["metadata"].get("annotations", {})
    return {name: value for name, value in annotations.items() if not name.startswith(RESERVED)}


def _with(base: Mapping[str, Any], service: Service) -> dict[str, Any]:
    body = copy.deepcopy(dict(base))
    body.pop("status", None)
    kept = {name: value for name, value in body["metadata"].get("annotations", {}).items() if name.startswith(RESERVED)}
    body["metadata"]["annotations"] = kept | dict(service.annotations)
    body["spec"]["traffic"] = [_target(one) for one in service.traffic]
    return body


def _target(target: Target) -> dict[str, Any]:
    written: dict[str, Any] = {"latestRevision": True} if target.latest else {"revisionName": target.revision}
    if target.percent:
        written["percent"] = target.percent
    return written | ({"tag": target.tag} if target.tag else {})


def _shares(targets: list[dict[str, Any]]) -> list[tuple[str, int, str]]:
    return sorted(
        ("" if one.get("latestRevision") else one["revisionName"], one.get("percent", 0), one.get("tag", ""))
        for one in targets
        if one.get("percent") or one.get("tag")
    )


def _read(reply: Any) -> dict[str, Any]:
    if reply.status_code == 409:
        raise Conflict(_message(reply))
    if reply.status_code != 200:
        raise Refused(f"{reply.request.method} {reply.url}: {reply.status_code} {_message(reply)}")
    found: dict[str, Any] = reply.json()
    return found


def _message(reply: Any) -> str:
    try:
        return str(reply.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return str(reply.text[:200])
