"""Asks Cloud Monitoring what a deployed service used while it was loaded, and writes it into the recorded run.

`python -m load.run … --host …` does so by itself where the address tells project and service; what comes too late can
be asked for again: `python -m load.cloud load/results/normal.json.gz my-project/rookery`.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import select
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from load.identity import Identity
from load.monitoring import INSTANCES, METRICS, PERIOD_SECONDS, URL, CloudError, Monitoring, Place, place
from model.command_line import Parser

GCLOUD = ("gcloud", "auth", "print-access-token")
# Cloud Run's metrics are sampled every 60 seconds and may be another 180 late
LATE_SECONDS, PAUSE_SECONDS = 300.0, 15.0


def read(
    monitoring: Monitoring, begin: float, end: float, late: float = LATE_SECONDS, pause: float = PAUSE_SECONDS
) -> dict[str, Any]:
    """Return what a service used, by metric.

    Args:
        monitoring: where it is asked.
        begin: of the load, seconds since the epoch.
        end: likewise.
        late: seconds after the end for which the last minute is waited for.
        pause: seconds between two looks.

    Returns:
        For each metric that has points: `unit`, `points` of (seconds since the beginning, mean), and `mean`, `p50`,
        `p95` and `most`; `instances` has one entry for each state.

    Raises:
        CloudError: nothing can be had.
    """
    # aligned minutes end after the load does
    until = end + PERIOD_SECONDS
    while time.time() < end + late and not _has_arrived(monitoring, begin, until, end):
        select.select([], [], [], pause)
    found: dict[str, Any] = {}
    for metric in METRICS:
        for series in monitoring.series(metric, begin, until):
            state = series.get("metric", {}).get("labels", {}).get(metric.label, "")
            name = f"{metric.name}, {state}" if state else metric.name
            told = _gauge(series, begin) if metric.label else _distribution(series, begin)
            if told is not None:
                found[name] = {"unit": metric.unit, **told}
    return found


def _has_arrived(monitoring: Monitoring, begin: float, until: float, end: float) -> bool:
    """Whether the last minute of the load is known."""
    points = [point for series in monitoring.series(INSTANCES, begin, until) for point in series.get("points", [])]
    return any(_seconds(point["interval"]["endTime"]) >= end for point in points)


def _gauge(series: Mapping[str, Any], begin: float) -> dict[str, Any] | None:
    """Sum up a number over time."""
    points = []
    for point in series.get("points", []):
        value = point["value"]
        points.append((_after(point, begin), float(value.get("int64Value", value.get("doubleValue", 0)))))
    if not points:
        return None
    values = sorted(value for _, value in points)
    return {
        "points": sorted(points),
        "mean": round(sum(values) / len(values), 4),
        "p50": values[(len(values) - 1) // 2],
        "p95": values[math.ceil(len(values) * 0.95) - 1],
        "most": values[-1],
    }


def _distribution(series: Mapping[str, Any], begin: float) -> dict[str, Any] | None:
    """Sum up distributions over time; percentiles are the upper edges of their buckets."""
    points: list[tuple[float, float]] = []
    counts: list[int] = []
    edges: list[float] = []
    total, weighted = 0, 0.0
    for point in series.get("points", []):
        told = point["value"].get("distributionValue", {})
        count = int(told.get("count", 0))
        if not count or "bucketOptions" not in told:
            continue
        mean = float(told.get("mean", 0))
        points.append((_after(point, begin), round(mean, 4)))
        total, weighted = total + count, weighted + count * mean
        edges = _edges(told["bucketOptions"])
        own = [int(one) for one in told.get("bucketCounts", [])]
        counts = [a + b for a, b in zip(_filled(counts, len(edges) + 1), _filled(own, len(edges) + 1), strict=True)]
    if not total:
        return None
    marks = {name: _edge(counts, edges, share) for name, share in (("p50", 0.5), ("p95", 0.95), ("most", 1.0))}
    return {"points": sorted(points), "count": total, "mean": round(weighted / total, 4), **marks}


def _filled(counts: Sequence[int], length: int) -> list[int]:
    """Return counts with the zeros that the API leaves out at their end."""
    return [*counts, *[0] * (length - len(counts))]


def _edges(options: Mapping[str, Any]) -> list[float]:
    """Return the bounds between the buckets; the first has none below, the last none above."""
    if "explicitBuckets" in options:
        return [float(bound) for bound in options["explicitBuckets"]["bounds"]]
    if "exponentialBuckets" in options:
        form = options["exponentialBuckets"]
        return [form["scale"] * form["growthFactor"] ** power for power in range(int(form["numFiniteBuckets"]) + 1)]
    form = options["linearBuckets"]
    return [form.get("offset", 0) + form["width"] * step for step in range(int(form["numFiniteBuckets"]) + 1)]


def _edge(counts: Sequence[int], edges: Sequence[float], share: float) -> float:
    """Return the upper edge of the bucket in which a share of all is reached; the last bucket has its lower one."""
    wanted, seen = sum(counts) * share, 0
    for bucket, count in enumerate(counts):
        seen += count
        if seen >= wanted - 1e-9:
            return round(edges[min(bucket, len(edges) - 1)], 4)
    raise ValueError("counts without any")


def _after(point: Mapping[str, Any], begin: float) -> float:
    """Return the end of a point's minute, in seconds since the load began."""
    return round(_seconds(point["interval"]["endTime"]) - begin, 1)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def ask(where: Place, began: float, seconds: float, late: float = LATE_SECONDS) -> dict[str, Any]:
    """Return what a service used during a load, or `missing` with the reason: a run is not lost for want of it."""
    identity = Identity(os.environ.get("LOAD_ACCESS_TOKEN", ""), () if "LOAD_ACCESS_TOKEN" in os.environ else GCLOUD)
    url = os.environ.get("LOAD_MONITORING_URL", URL)
    try:
        return read(Monitoring(where, identity, url), began, began + seconds, late)
    except CloudError as error:
        print(f"Cloud Monitoring: {error}", file=sys.stderr)
        return {"missing": str(error)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Complete a recorded run; returns 1 if nothing could be had."""
    parser = Parser(
        prog="python -m load.cloud",
        description=__doc__,
        epilog="exit status: 0 completed, 1 nothing could be had, 2 wrong usage\n\n"
        "example: python -m load.cloud load/results/normal.json.gz my-project/rookery",
    )
    parser.add_argument("run", type=Path, help="what `make load HOST=…` has written")
    parser.add_argument("place", type=place, metavar="PROJECT/SERVICE", help="and /REGION where several have it")
    given = parser.parse_args(arguments)
    try:
        with gzip.open(given.run, "rt") as file:
            run = json.load(file)
    except OSError as error:
        parser.error(f"{given.run} cannot be read: {error}; `make load HOST=…` writes one")
    seconds = max(run["samples"]["start"]) + 1
    run["cloud"] = ask(given.place, run["began"], seconds)
    part = given.run.with_suffix(".part")
    with gzip.open(part, "wt") as file:
        json.dump(run, file)
    os.replace(part, given.run)
    print(f"{given.run}: {', '.join(run['cloud'])}")
    return 1 if "missing" in run["cloud"] else 0


if __name__ == "__main__":
    sys.exit(main())
