"""What Prometheus sees: the sums of all workers of an instance, in the format of the client library."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from service import families as f
from service import memory, usage
from service.sums import Total, totals
from service.tally import Tally

if TYPE_CHECKING:
    from prometheus_client import Metric

    from service.exemplars import Exemplar as One

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# the format that has a place for exemplars
OPENMETRICS = "application/openmetrics-text"
OPENMETRICS_CONTENT_TYPE = f"{OPENMETRICS}; version=1.0.0; charset=utf-8"

# name → what it tells
OF_PROCESSES = {
    usage.CPU: "Processor seconds of all processes of the instance",
    usage.RESIDENT: "Resident memory of all processes of the instance, what they share counted in each",
    usage.VIRTUAL: "Virtual memory of all processes of the instance",
    usage.STARTED: "When the instance was started, in seconds since the epoch",
}
MEMORY_USED = "rookery_memory_used_ratio"
MEMORY_TEXT = "Memory in use, 0..1 of the limit of the control group; absent where there is no limit"


def exposition(tally: Tally, *, as_openmetrics: bool = False) -> bytes:
    """Return the metrics of the whole instance.

    Args:
        tally: of this worker.
        as_openmetrics: in OpenMetrics, with exemplars, instead of Prometheus' own text format.
    """
    # imported at the first scrape: the start does not wait for it
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.openmetrics import exposition as openmetrics

    tally.publish()
    registry = CollectorRegistry()
    if not as_openmetrics:
        registry.register(_Collector(tally, {}))
        return generate_latest(registry)
    from service.exemplars import latest

    registry.register(_Collector(tally, latest(tally.ledger)))
    return bytes(openmetrics.generate_latest(registry))  # type: ignore[no-untyped-call]


class _Collector:
    """Gives the library what was counted, once it asks."""

    def __init__(self, tally: Tally, exemplars: Mapping[f.Labels, Mapping[int, One]]) -> None:
        self._tally, self._exemplars = tally, exemplars

    def describe(self) -> list[Metric]:
        """Say nothing: the library would collect everything to find out the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        for total in totals(self._tally.ledger).values():
            yield _metric(total, self._exemplars)
        yield from _of_processes()


def _metric(total: Total, exemplars: Mapping[f.Labels, Mapping[int, One]]) -> Metric:
    """Return one metric in the library's form."""
    from prometheus_client.core import CounterMetricFamily, Exemplar, GaugeMetricFamily, HistogramMetricFamily

    family = total.family
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(family.name, family.text, labels=family.labels)
        bounds = [*map(repr, family.bounds), "+Inf"]
        for labels, cells in total.series.items():
            last = exemplars.get(labels, {}) if family.name == f.REQUEST_SECONDS else {}
            counts = enumerate(zip(bounds, cells[:-1].cumsum().tolist(), strict=True))
            buckets = [(*each, Exemplar(*_shown(last[index]))) if index in last else each for index, each in counts]
            histogram.add_metric(labels, buckets, float(cells[-1]))
        return histogram
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric: Metric = kind(family.name, family.text, labels=family.labels)
    for labels, cells in total.series.items():
        # what is kept is 0 until it is known
        if family.kind != "kept" or (cells[0] > 0 and labels != f.KEY):
            metric.add_metric(labels, float(cells[0]))  # type: ignore[attr-defined]
    return metric


def _shown(one: One) -> tuple[dict[str, str], float, float]:
    """Return an exemplar's labels, value and time."""
    return {"trace_id": one.trace_id}, one.seconds, one.at


def _of_processes() -> Iterator[Metric]:
    """Yield memory and processor time."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    for name, value in usage.usage().items():
        kind = CounterMetricFamily if name == usage.CPU else GaugeMetricFamily
        yield kind(name, OF_PROCESSES[name], value=value)
    group = memory.find()
    ratio = None if group is None else group.used_ratio()
    if ratio is not None:
        yield GaugeMetricFamily(MEMORY_USED, MEMORY_TEXT, value=ratio)
