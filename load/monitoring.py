"""Cloud Monitoring's `projects.timeSeries.list`, by plain REST, for what Cloud Run says of a service's containers."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from load.identity import Identity, TokenError

URL = "https://monitoring.googleapis.com"
TIMEOUT_SECONDS = 30
PERIOD_SECONDS = 60
PAGES_MAX = 50
# addresses that say where they are: https://SERVICE-NUMBER.REGION.run.app, with or without a tag
ADDRESS = re.compile(r"https://(?:[a-z0-9-]+?---)?([a-z][a-z0-9-]*)-(\d{6,})\.([a-z0-9-]+)\.run\.app/?")


class CloudError(Exception):
    """Nothing can be had; the text is one line that says why."""


@dataclass(frozen=True)
class Place:
    """A service on Cloud Run.

    Attributes:
        project: id or number.
        service: name.
        region: empty for all.
    """

    project: str
    service: str
    region: str = ""


@dataclass(frozen=True)
class Metric:
    """One metric of Cloud Run, see https://cloud.google.com/monitoring/api/metrics_gcp_p_z.

    Attributes:
        name: as the report calls it.
        type: after `run.googleapis.com/container/`.
        unit: of its values.
        label: that tells its series apart; empty for a distribution.
    """

    name: str
    type: str
    unit: str
    label: str = ""


INSTANCES = Metric("instances", "instance_count", "", "state")
METRICS = (
    INSTANCES,
    Metric("CPU", "cpu/utilizations", "share"),
    Metric("memory", "memory/utilizations", "share"),
    Metric("start-up", "startup_latencies", "ms"),
)


def place_of(host: str) -> Place | None:
    """Return where a host runs, None where its address does not say."""
    found = ADDRESS.fullmatch(host)
    return Place(found[2], found[1], found[3]) if found else None


def place(text: str) -> Place:
    """Read `PROJECT/SERVICE` or `PROJECT/SERVICE/REGION`.

    Raises:
        ValueError: it is neither.
    """
    words = text.split("/")
    if not 2 <= len(words) <= 3 or not all(words):
        raise ValueError(f"{text} is not PROJECT/SERVICE")
    return Place(*words)


class Monitoring:
    """The interface `projects.timeSeries.list`, by plain REST."""

    def __init__(self, place: Place, identity: Identity, url: str = URL) -> None:
        """Prepare.

        Args:
            place: whose metrics.
            identity: gives the access token.
            url: of the API.
        """
        self._place, self._identity = place, identity
        self._url = f"{url.rstrip('/')}/v3/projects/{place.project}/timeSeries"

    def series(self, metric: Metric, begin: float, end: float) -> Iterator[Mapping[str, Any]]:
        """Yield the series of a metric, summed up over instances and revisions, a point a minute.

        Args:
            metric: which.
            begin: seconds since the epoch.
            end: likewise.

        Raises:
            CloudError: the API refuses, cannot be reached, or says more than is read.
        """
        where = [
            f'metric.type = "run.googleapis.com/container/{metric.type}"',
            'resource.type = "cloud_run_revision"',
            f'resource.labels.service_name = "{self._place.service}"',
            *([f'resource.labels.location = "{self._place.region}"'] if self._place.region else []),
        ]
        asked = {
            "filter": " AND ".join(where),
            "interval.startTime": _moment(begin),
            "interval.endTime": _moment(end),
            "aggregation.alignmentPeriod": f"{PERIOD_SECONDS}s",
            "aggregation.perSeriesAligner": "ALIGN_MAX" if metric.label else "ALIGN_DELTA",
            "aggregation.crossSeriesReducer": "REDUCE_SUM",
            **({"aggregation.groupByFields": f"metric.labels.{metric.label}"} if metric.label else {}),
        }
        for _ in range(PAGES_MAX):
            page = self._get(asked)
            yield from page.get("timeSeries", [])
            if not page.get("nextPageToken"):
                return
            asked["pageToken"] = page["nextPageToken"]
        raise CloudError(f"{self._url}: more than {PAGES_MAX} pages")

    def _get(self, asked: Mapping[str, str]) -> Mapping[str, Any]:
        """Ask once."""
        try:
            headers = self._identity.headers()
            request = urllib.request.Request(f"{self._url}?{urllib.parse.urlencode(asked)}", headers=headers)
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as reply:
                return dict(json.loads(reply.read()))
        except urllib.error.HTTPError as error:
            with error:
                text = " ".join(error.read().decode(errors="replace").split())[:200]
            raise CloudError(f"{self._url}: {error.code} {text}; see roles/monitoring.viewer") from error
        except (OSError, ValueError, TokenError) as error:
            raise CloudError(f"{self._url}: {error}") from error


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
