"""What one release asks Cloud Run for: the service file filled in, and traffic left where it is; pure."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scripts.rollout.state import ANNOTATION, CANDIDATE, INTENDED, INTENDED_DIGEST, Phase, parse

__all__ = ["CANDIDATE", "Release", "ReleaseError", "beside", "fill", "is_first", "revision_name"]

SIDECAR = "metrics"
# Cloud Run's limit for revision names, of which the service's name and a hyphen are part
NAME_LENGTH = 63


class ReleaseError(Exception):
    """The release cannot be described; the text is one line that says what to give instead."""


@dataclass(frozen=True)
class Release:
    """One release.

    Attributes:
        service: the service's name.
        revision: the new revision's full name.
        image: reference by digest, or by tag where the registry tells none.
        model_uri: where the bundle is: `gs://bucket/prefix/<digest>/`.
        model_digest: `sha256:<64 hex>` of the bundle.
        service_account: e-mail of the identity that the service runs as.
        project: of the traces.
        settings: more environment variables, such as `ROOKERY_MODEL_CONTRACT`.
        has_sidecar: whether the metrics sidecar is deployed.
        public_key_secret: secret with the public key; empty serves unsigned bundles too.
    """

    service: str
    revision: str
    image: str
    model_uri: str
    model_digest: str
    service_account: str
    project: str
    settings: Mapping[str, str]
    has_sidecar: bool = True
    public_key_secret: str = "rookery-signing-public"  # noqa: S105 - a name

    def __post_init__(self) -> None:
        """Refuse names that Cloud Run would refuse after the build."""
        if not re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", self.revision) or len(self.revision) > NAME_LENGTH:
            raise ReleaseError(f"{self.revision} is no name of a revision: lower case, digits, hyphens, at most 63")
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", self.model_digest):
            raise ReleaseError(f"{self.model_digest or 'no digest'} is no digest; pin sha256: and 64 hex digits")


def revision_name(service: str, model_digest: str, seconds: int) -> str:
    """Name a revision after its bundle and the time of its deployment, so that names sort and never repeat."""
    return f"{service}-{seconds:x}-{model_digest.removeprefix('sha256:')[:8]}"


def fill(template: Mapping[str, Any], release: Release) -> dict[str, Any]:
    """Return the service file with a release's own values; its traffic is not in it."""
    body = copy.deepcopy(dict(template))
    body["metadata"]["name"] = release.service
    # with which `run` knows the newest candidate, wherever its tag is
    intended = {INTENDED: release.revision, INTENDED_DIGEST: release.model_digest}
    body["metadata"]["annotations"] = {**body["metadata"].get("annotations", {}), **intended}
    revision = body["spec"]["template"]
    revision["metadata"]["name"] = release.revision
    spec = revision["spec"]
    spec["serviceAccountName"] = release.service_account
    main = spec["containers"][0]
    main["image"] = release.image
    main["env"] = _environment(main["env"], release)
    if not release.has_sidecar:
        spec["containers"] = [one for one in spec["containers"] if one.get("name") != SIDECAR]
        del spec["volumes"]
        revision["metadata"]["annotations"].pop("run.googleapis.com/container-dependencies")
    return body


def _environment(declared: list[dict[str, Any]], release: Release) -> list[dict[str, Any]]:
    own = {"MODEL_URI": release.model_uri, "MODEL_DIGEST": release.model_digest, "ROOKERY_PROJECT": release.project}
    own |= release.settings
    kept = [one for one in declared if one["name"] not in own]
    if release.public_key_secret:
        kept = [_renamed(one, release.public_key_secret) for one in kept]
    else:
        kept = [one for one in kept if one["name"] != "MODEL_PUBLIC_KEY"]
    return [{"name": name, "value": value} for name, value in own.items()] + kept


def _renamed(variable: dict[str, Any], secret: str) -> dict[str, Any]:
    if variable["name"] != "MODEL_PUBLIC_KEY":
        return variable
    reference = variable["valueFrom"]["secretKeyRef"]
    return {**variable, "valueFrom": {"secretKeyRef": {**reference, "name": secret}}}


def is_first(existing: Mapping[str, Any] | None) -> bool:
    """Whether nothing serves that a new revision could wait beside: no service, no traffic, or an unfit first one.

    Args:
        existing: the service as Cloud Run shows it, or None.
    """
    if existing is None:
        return True
    serving = {one["revisionName"] for one in existing["status"].get("traffic", []) if one.get("percent")}
    return not serving or serving == {_unfit(existing)}


def _unfit(existing: Mapping[str, Any]) -> str:
    """Return the first revision of all if it did not pass its smoke test, else nothing."""
    try:
        state = parse(existing["metadata"].get("annotations", {}).get(ANNOTATION, ""))
    except ValueError:
        return ""
    return state.candidate if state.is_first and state.phase is Phase.ROLLED_BACK else ""


def beside(body: Mapping[str, Any], existing: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what to write: the new revision at 0 % with the tag `candidate`, all traffic where it is.

    Args:
        body: the filled service file.
        existing: the service as Cloud Run shows it, or None for the first deployment of all: Cloud Run lets no service
            exist without traffic, so the first revision gets all of it, and so does one after an unfit first one.
    """
    written = copy.deepcopy(dict(body))
    revision = body["spec"]["template"]["metadata"]["name"]
    candidate = {"revisionName": revision, "tag": CANDIDATE}
    if is_first(existing):
        written["spec"]["traffic"] = [{**candidate, "percent": 100}]
    if existing is None:
        return written
    metadata = existing["metadata"]
    annotations = dict(metadata.get("annotations", {})) | body["metadata"].get("annotations", {})
    written["metadata"] |= {"resourceVersion": metadata["resourceVersion"], "annotations": annotations}
    if not is_first(existing):
        written["spec"]["traffic"] = [*_pinned(existing), candidate]
    return written


def _pinned(existing: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return where traffic truly goes, by name: `latestRevision` would give the candidate everything."""
    found = []
    for target in existing["status"].get("traffic", []):
        kept: dict[str, Any] = {"revisionName": target["revisionName"]}
        if target.get("percent"):
            kept["percent"] = target["percent"]
        if target.get("tag") and target["tag"] != CANDIDATE:
            kept["tag"] = target["tag"]
        if len(kept) > 1:
            found.append(kept)
    return found
