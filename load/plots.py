"""Draws what was recorded, the same bytes every time."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from load.summary import GROWTH

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Summary = Mapping[str, Any]
# nothing that differs from day to day or machine to machine
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "rookery",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.grid": True,
    "grid.alpha": 0.3,
}
NO_DATES = {"Date": None, "Creator": None}


def all_of(runs: Mapping[str, Summary], capacity: Summary) -> dict[str, str]:
    """Return every plot by its file name, as SVG."""
    import matplotlib as mpl

    mpl.use("svg")
    with mpl.rc_context(STYLE):
        drawn = {f"{name}.svg": _svg(_timeline(run)) for name, run in runs.items()}
        return {**drawn, "latency.svg": _svg(_latency(runs)), "capacity.svg": _svg(_capacity(capacity))}


def _svg(figure: Figure) -> str:
    """Return a figure as text."""
    from matplotlib import pyplot

    out = io.StringIO()
    figure.savefig(out, format="svg", metadata=NO_DATES)
    pyplot.close(figure)
    return re.sub(r"[ \t]+\n", "\n", out.getvalue())


def _timeline(run: Summary) -> Figure:
    """Draw one scenario over time: rate, latency, in flight, processor and memory."""
    from matplotlib import pyplot

    series = run["series"]
    figure, axes = pyplot.subplots(4, 1, sharex=True, figsize=(8, 7), layout="constrained")
    at = series["at"]
    axes[0].plot(at, series["rate"], label="requests/s")
    axes[0].plot(at, series["failures"], label="failures")
    axes[1].plot(at, series["p50_ms"], label="p50, ms")
    axes[1].plot(at, series["worst_ms"], label="worst, ms")
    axes[1].set_yscale("log")
    axes[2].plot(at, series["in_flight"], label="in flight, mean")
    axes[3].plot(at, series["cpu"], label="CPUs used")
    axes[3].plot(at, [None if mb is None else mb / 1024 for mb in series["memory_mb"]], label="memory, GiB")
    begin = 0.0
    for _, seconds, _ in run["stages"][:-1]:
        begin += seconds
        for axis in axes:
            axis.axvline(begin, color="grey", linestyle=":")
    for axis in axes:
        axis.legend(loc="upper left")
    axes[0].set_title(f"{run['scenario']}: {run['says']}")
    axes[3].set_xlabel("seconds")
    return figure


def _latency(runs: Mapping[str, Summary]) -> Figure:
    """Draw how many answers took longer than what, for every scenario."""
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for name, run in runs.items():
        edges, shares = _tail(run["histogram"].items())
        axis.step(edges, shares, where="post", label=name)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("latency, ms")
    axis.set_ylabel("share of answers that took longer")
    axis.legend()
    return figure


def _tail(histogram: Iterable[tuple[str, int]]) -> tuple[list[float], list[float]]:
    """Return upper edges in milliseconds and the share above each; the last, which nothing exceeds, is left out."""
    buckets = [(int(bucket), count) for bucket, count in histogram]
    left = total = sum(count for _, count in buckets)
    edges, shares = [], []
    for bucket, count in buckets:
        left -= count
        if left:
            edges.append(round(GROWTH ** (bucket + 1) / 1000, 6))
            shares.append(round(left / total, 9))
    return edges, shares


def _capacity(capacity: Summary) -> Figure:
    """Draw measured capacity by processors, and what the model says."""
    from matplotlib import pyplot

    from load.sizing import Capacity

    figure, axis = pyplot.subplots(figsize=(6, 4), layout="constrained")
    known = Capacity.measured(capacity["sizes"])
    line = [0.0, 0.25, 0.5, 1.0, 2.0]
    axis.plot(line, [round(known.rate(cpu), 1) for cpu in line], linestyle="--", label="model; 2 CPU computed")
    axis.plot([s["cpu"] for s in capacity["sizes"]], [s["rate"] for s in capacity["sizes"]], "o", label="measured")
    pair = capacity["pair"]
    axis.plot([pair["cpu"] * pair["instances"]], [pair["rate"]], "s", label="2 × 0.25 behind a balancer")
    axis.set_xlabel("CPUs")
    axis.set_ylabel("answers a second, one row each")
    axis.legend()
    return figure
