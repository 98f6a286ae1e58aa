"""What is written to Cloud Monitoring beside the fake Cloud Run: keeps points, and refuses what the real one does.

https://cloud.google.com/monitoring/api/ref_v3/rest/v3/projects.timeSeries/create; the real one takes one point in 5 s
of each series (https://cloud.google.com/monitoring/quotas), and wants later points to be later.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

from tests.fakes.cloudrun_wire import Refused, Reply, Request

PATH = re.compile(r"/v3/projects/([^/]+)/timeSeries")
LEAST_SECONDS = 5.0
MEMBERS = {"metric", "resource", "metricKind", "valueType", "points"}


class Points:
    """Keeps points.

    Attributes:
        kept: metric's type → seconds and value of each point, in order.
        refused: how many requests were refused.
    """

    def __init__(self) -> None:
        self.kept: dict[str, list[tuple[float, float]]] = {}
        self.refused = 0

    def takes(self, request: Request) -> bool:
        """Whether a request writes points."""
        return request.method == "POST" and PATH.fullmatch(request.path) is not None

    def answer(self, request: Request) -> Reply:
        """Answer one request that writes points."""
        try:
            if not request.headers.get("authorization", "").startswith("Bearer "):
                raise Refused(401, "Request is missing required authentication credential.")
            for series in request.json()["timeSeries"]:
                self._keep(series)
        except Refused as refusal:
            self.refused += 1
            return refusal.reply()
        return Reply.json({})

    def _keep(self, series: dict[str, Any]) -> None:
        if unknown := set(series) - MEMBERS:
            raise Refused(400, f"Invalid JSON payload received. Unknown name {json.dumps(sorted(unknown))}")
        name, [point] = series["metric"]["type"], series["points"]
        if not name.startswith("custom.googleapis.com/"):
            raise Refused(403, f"Permission to write {name} is denied.")
        end = datetime.fromisoformat(point["interval"]["endTime"].replace("Z", "+00:00")).timestamp()
        kept = self.kept.setdefault(name, [])
        if kept and end - kept[-1][0] < LEAST_SECONDS:
            raise Refused(400, "One or more points were written more frequently than the maximum sampling period.")
        kept.append((end, float(point["value"]["doubleValue"])))
