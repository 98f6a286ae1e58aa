"""Looks before it loads: tells a host that is blocked or asks for a token from one that fails, and stops."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from load import bundles
from load.bundles import Bundle
from load.traffic import MIX, PROTOCOLS, Traffic

Finding = Literal["ready", "unreachable", "blocked", "unauthorised", "not ready", "not rookery", "wrong answers"]
TIMEOUT_SECONDS = 15
ADVICE: dict[Finding, str] = {
    "unreachable": "nobody answers there; check the address, DNS and the network of this machine",
    "blocked": "something in between refuses, not the service: ingress settings, a firewall, or a proxy",
    "unauthorised": "it wants an identity token; set LOAD_TOKEN, or log in with gcloud, and see roles/run.invoker",
    "not ready": "the service is there and says why it does not serve; see DEPLOYMENT.md, 'When it is not ready'",
    "not rookery": "something else answers there",
    "wrong answers": "it answers golden rows otherwise than the bundle; do not load it, find out what it serves",
}


class Stop(Exception):
    """The host is not fit to be loaded.

    Attributes:
        finding: why.
    """

    def __init__(self, finding: Finding, seen: str) -> None:
        """Say what was seen and what to do."""
        super().__init__(f"{finding}: {seen}; {ADVICE[finding]}")
        self.finding: Finding = finding


@dataclass(frozen=True)
class Target:
    """A host that is fit.

    Attributes:
        bundle: what it serves, with golden rows if the folder given has the same digest.
        mix: the weights, those of missing routes 0.
    """

    bundle: Bundle
    mix: dict[str, int]


def inspect(host: str, headers: Mapping[str, str], folder: Path | None, mix: Mapping[str, int] = MIX) -> Target:
    """Look at a host.

    Args:
        host: base URL.
        headers: the identity token, if any.
        folder: a bundle whose golden rows are to be asked; None for random valid rows.
        mix: wanted weights.

    Raises:
        Stop: it must not be loaded.
    """
    card = _model_card(host, headers)
    try:
        bundle = bundles.of(card, Path(str(card["digest"]).removeprefix("sha256:")))
    except (KeyError, TypeError, ValueError) as error:
        raise Stop("not rookery", f"{host}/model is no model card: {error!r}") from error
    if folder is not None:
        known = bundles.read(folder)
        if known.digest != bundle.digest:
            raise Stop("wrong answers", f"{host} serves {bundle.digest}, the bundle is {known.digest}")
        bundle = known
    traffic = Traffic(bundle, mix)
    weights = {kind: weight if _has(host, headers, traffic, kind) else 0 for kind, weight in mix.items()}
    return Target(bundle, weights)


def _model_card(host: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """Return the model card of a service that is ready."""
    status, told, body = _ask(f"{host}/health/ready", headers)
    _judge(host, status, told, body)
    status, told, body = _ask(f"{host}/model", headers)
    if status != 200:
        raise Stop("not rookery", f"{host}/model answers {status}")
    return dict(json.loads(body))


def _judge(host: str, status: int, told: Mapping[str, str], body: bytes) -> None:
    """Tell what an answer to the readiness probe means."""
    is_ours = "x-request-id" in told and told.get("content-type", "").split(";")[0].endswith("json")
    seen = f"{host}/health/ready answers {status}"
    if status == 200 and is_ours and "x-model-digest" in told:
        return
    if status in (401, 403) and not is_ours:
        # Cloud Run names the scheme where a token is missing or wrong; ingress and proxies do not
        wants_token = "www-authenticate" in told or (status == 403 and b"does not have permission" in body)
        raise Stop("unauthorised" if wants_token else "blocked", seen)
    if status in (407, 451) or 300 <= status < 400:
        raise Stop("blocked", seen)
    if status == 503 and is_ours:
        raise Stop("not ready", f"{seen}, reason {json.loads(body).get('reason', 'unknown')}")
    raise Stop("not rookery", seen)


def _has(host: str, headers: Mapping[str, str], traffic: Traffic, kind: str) -> bool:
    """Whether a kind of request is answered, and rightly; a protocol may be missing."""
    call = traffic.word(kind)
    status, _, body = _ask(host + call.path, {**headers, **call.headers}, call.body)
    if status in (404, 405) and kind in PROTOCOLS:
        return False
    wrong = call.check(status, body)
    if wrong:
        raise Stop("wrong answers", f"{call.path} ({kind}): {wrong[:200]}")
    return True


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows nobody: a redirect is a finding."""

    def redirect_request(self, *_: Any) -> None:
        """Do not follow."""


def _ask(url: str, headers: Mapping[str, str], body: bytes | None = None) -> tuple[int, dict[str, str], bytes]:
    """Send one request and return status, headers in lower case, and body, whatever the status."""
    request = urllib.request.Request(url, body, dict(headers))
    try:
        with urllib.request.build_opener(_Stay).open(request, timeout=TIMEOUT_SECONDS) as reply:
            return reply.status, {name.lower(): value for name, value in reply.headers.items()}, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, {name.lower(): value for name, value in error.headers.items()}, error.read()
    except (OSError, ValueError) as error:
        raise Stop("unreachable", f"{url}: {error}") from error
