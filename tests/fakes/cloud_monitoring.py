"""A fake of Cloud Monitoring's API as far as gcloud asks it for dashboards, alert policies and notification channels.

It refuses what the real one refuses, and adds to what it was given what the real one adds:
https://cloud.google.com/monitoring/api/ref_v3/rest
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from tests.fakes.cloudrun_wire import Refused, Reply, Request

HOST = "monitoring.fake.test"
# the API answers with a project's number, whatever it was asked by
NUMBER = "123456789"
ROUTE = re.compile(r"/v[13]/projects/([^/]+)/(dashboards|alertPolicies|notificationChannels)(?:/([^/]+))?")
LABEL = re.compile(r"[a-z][a-z0-9_-]{0,62}"), re.compile(r"[a-z0-9_-]{0,63}")
METRIC = re.compile(r"\b(?:rookery|process)_[a-z_]+\b")
TYPE = re.compile(r'type="([^"]+)"')

Resource = dict[str, Any]


class CloudMonitoring:
    """Answers for `HOST`.

    Attributes:
        held: kind → name → what is there.
        written: method, kind and body of every request that wrote, or tried to, in order.
        metrics: names of metrics that have been reported.
        before_update: called before the next update is judged: what somebody else does meanwhile.
    """

    def __init__(self) -> None:
        self.held: dict[str, dict[str, Resource]] = {
            "dashboards": {},
            "alertPolicies": {},
            "notificationChannels": {},
        }
        self.written: list[tuple[str, str, Resource]] = []
        self.metrics: set[str] = set()
        self.before_update: Callable[[], object] = lambda: None
        self._count = 0

    def environment(self) -> dict[str, str]:
        """Variables that bring gcloud here, beside those of the proxy."""
        return {"CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING": f"http://{HOST}/"}

    def hold_channel(self, address: str) -> str:
        """Let there be a channel for mail, and return its name."""
        body = {"displayName": "Rookery", "type": "email", "labels": {"email_address": address}}
        return str(self._create("notificationChannels", body)["name"])

    def answer(self, request: Request) -> Reply:
        """Answer one request."""
        try:
            found = ROUTE.fullmatch(request.path)
            if found is None:
                raise Refused(404, f"no such route in the fake: {request.method} {request.path}")
            return Reply.json(self._answer(request, found[2], found[3]))
        except Refused as refused:
            return refused.reply()

    def _answer(self, request: Request, kind: str, number: str | None) -> Resource:
        if request.method == "GET" and number is None:
            return self._list(kind, request.query)
        body: Resource = request.json()
        self.written.append((request.method, kind, body))
        if request.method == "POST" and number is None:
            return self._create(kind, body)
        if request.method == "PATCH" and number is not None:
            return self._update(kind, number, body)
        raise Refused(404, f"no such route in the fake: {request.method} {request.path}")

    def _list(self, kind: str, query: Mapping[str, str]) -> Resource:
        """One page; only channels are chosen here, gcloud chooses the rest itself."""
        shown = [_shown(one) for one in self.held[kind].values()]
        wanted = TYPE.fullmatch(query.get("filter", ""))
        if wanted is not None:
            shown = [one for one in shown if one["type"] == wanted[1]]
        return {kind: shown} if shown else {}

    def _create(self, kind: str, body: Resource) -> Resource:
        if "etag" in body:
            raise Refused(400, "The etag should not be passed during creation.")
        if kind != "dashboards" and ("name" in body or any("name" in one for one in body.get("conditions", ()))):
            raise Refused(400, "Names are assigned when something is created.")
        self._count += 1
        name = body.get("name", f"projects/{NUMBER}/{kind}/{self._count}")
        if name in self.held[kind]:
            raise Refused(409, f"{name} exists already.")
        return self._save(kind, name, body)

    def _update(self, kind: str, number: str, body: Resource) -> Resource:
        meanwhile, self.before_update = self.before_update, lambda: None
        meanwhile()
        name = f"projects/{NUMBER}/{kind}/{number}"
        there = self.held[kind].get(name)
        if there is None:
            raise Refused(404, f"{name} does not exist.")
        if kind == "dashboards" and not body.get("etag"):
            raise Refused(400, "Update Dashboard should specify a non empty etag.")
        if kind == "dashboards" and body["etag"] != there["etag"]:
            raise Refused(409, "The etag is not that of the current version.")
        known = {one["name"] for one in there.get("conditions", ())}
        if {one["name"] for one in body.get("conditions", ()) if "name" in one} - known:
            raise Refused(400, "A condition is named that does not exist.")
        return self._save(kind, name, body)

    def _save(self, kind: str, name: str, body: Resource) -> Resource:
        if not body.get("displayName"):
            raise Refused(400, "Field displayName is required.")
        saved = {**body, "name": name}
        if kind == "dashboards":
            _judge_layout(body["mosaicLayout"])
            self._count += 1
            saved["etag"] = f"etag-{self._count}"
        if kind == "alertPolicies":
            self._judge_policy(body)
            conditions = [{"name": f"{name}/conditions/{self._next()}", **one} for one in body["conditions"]]
            saved = {"enabled": True, **saved, "conditions": conditions, "mutationRecord": {"mutateTime": "…"}}
        self.held[kind][name] = saved
        return _shown(saved)

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _judge_policy(self, policy: Resource) -> None:
        """Refuse what Cloud Monitoring refuses."""
        documentation = policy.get("documentation", {})
        if len(documentation.get("subject", "")) > 255 or len(documentation.get("content", "")) > 8192:
            raise Refused(400, "The documentation is too long.")
        for key, value in policy.get("userLabels", {}).items():
            if not LABEL[0].fullmatch(key) or not LABEL[1].fullmatch(value):
                raise Refused(400, f"userLabels: {key}={value} has other characters than a label may have.")
        for channel in policy.get("notificationChannels", ()):
            if channel not in self.held["notificationChannels"]:
                raise Refused(404, f"The channel {channel} does not exist.")
        if not 1 <= len(policy.get("conditions", ())) <= 6:
            raise Refused(400, "A policy has one to six conditions.")
        if not policy.get("combiner"):
            raise Refused(400, "Field combiner is required.")
        for condition in policy["conditions"]:
            self._judge_condition(condition)

    def _judge_condition(self, condition: Resource) -> None:
        kinds = [key for key in condition if key.startswith("condition")]
        if len(kinds) != 1 or not condition.get("displayName"):
            raise Refused(400, "A condition has a display name and is of one kind.")
        told = condition[kinds[0]]
        if kinds[0] == "conditionThreshold":
            if _seconds(told["duration"]) % 60 or not told.get("filter"):
                raise Refused(400, "duration must be a multiple of a minute, filter is required.")
            return
        if not told.get("query") or _seconds(told.get("evaluationInterval", "30s")) % 30:
            raise Refused(400, "query is required, evaluationInterval must be a multiple of 30 seconds.")
        unknown = set(METRIC.findall(told["query"])) - self.metrics
        if unknown and not told.get("disableMetricValidation"):
            raise Refused(400, f"Cannot find metric(s) that match {sorted(unknown)}.")


def _judge_layout(layout: Resource) -> None:
    """Refuse tiles that overlap, or lie outside."""
    taken: set[tuple[int, int]] = set()
    for tile in layout["tiles"]:
        left, top = tile.get("xPos", 0), tile.get("yPos", 0)
        cells = {(left + x, top + y) for x in range(tile["width"]) for y in range(tile["height"])}
        if cells & taken or left + tile["width"] > layout["columns"] or not 1 <= layout["columns"] <= 48:
            raise Refused(400, "The tiles do not fit.")
        taken |= cells


def _seconds(duration: str) -> int:
    return int(duration.removesuffix("s"))


def _shown(value: Any) -> Any:
    """Return something as the API shows it: without what is 0, false or empty, but for the values of labels."""
    if isinstance(value, list):
        return [_shown(one) for one in value]
    if not isinstance(value, dict):
        return value
    labels = {key: value[key] for key in ("labels", "userLabels") if key in value}
    return {key: _shown(one) for key, one in value.items() if one or key == "enabled"} | labels
