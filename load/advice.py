"""What follows from the numbers: what gave first, and what to set."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from load.objectives import steady
from load.sizing import TARGET, Capacity

Summary = Mapping[str, Any]
# of a resource: from here on it is full
FULL = 0.8
MEMORY_RESERVE = 0.7


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def replicas(cpus: float, gke: Mapping[str, float]) -> int:
    """Return how many pods the HPA's rule gives for so many processors in use."""
    wanted = math.ceil(cpus / (gke["request_cpu"] * gke["cpu_target"]) - 1e-9)
    return int(min(max(wanted, gke["replicas_min"]), gke["replicas_max"]))


def bottleneck(name: str, run: Summary) -> list[str]:
    """Say what one scenario used in its heaviest stage, and what was full."""
    phase, limits = steady(run), run["limits"]
    if phase["cpu"] is None:
        return [name, "–", "–", "–", "–", "too short to tell"]
    shares = {
        "CPU of the instance": phase["cpu"] / limits["cpu"],
        "memory of the instance": phase["memory_mb"] / limits["memory_mb"],
        "the caller's core": phase["caller_cpu"],
    }
    most = max(shares, key=shares.__getitem__)
    full = f"{most} is full" if shares[most] >= FULL else f"nothing; nearest is {most}"
    throttled = run["instance"]["throttled_seconds"]
    return [
        name,
        *(f"{share:.0%}" for share in shares.values()),
        "–" if throttled is None else f"{throttled:.1f}",
        full,
    ]


def recommendations(runs: Mapping[str, Summary], capacity: Summary, slo: Mapping[str, Any]) -> Iterator[str]:
    """Yield sentences, each with the numbers it follows from."""
    deploy, gke = slo["load"]["deploy"], slo["load"]["gke"]
    sizes = {size["cpu"]: size for size in capacity["sizes"]}
    known, whole = Capacity.measured(capacity["sizes"]), sizes[1.0]
    yield from _concurrency(deploy["concurrency"], whole)
    yield from _cpu(sizes, slo["latency"]["p99_seconds"] * 1000)
    yield from _memory(runs, deploy["memory_mib"])
    start = median(whole["starts"])
    objective = slo["latency"]["p99_seconds"]
    kept = "keep one instance where that matters" if start > objective else "none need be kept"
    yield (
        f"**Minimum instances: {deploy['min_instances']}.** A start takes {start:.2f} s (median, 1 CPU), the objective for "
        f"p99 is {objective:g} s: a request that meets a start {'misses' if start > objective else 'keeps'} it; {kept}."
    )
    usable = known.rate(gke["limit_cpu"]) * TARGET
    at_target = known.rate(gke["request_cpu"] * gke["cpu_target"])
    yield (
        f"**Pods: requests of {gke['request_cpu']:g}, limits of {gke['limit_cpu']:g} CPU.** The HPA's target of "
        f"{gke['cpu_target']:.0%} of the request is met at {at_target:,.0f} answers/s a pod, its limit allows {usable:,.0f} at "
        f"{TARGET:.0%}: {gke['replicas_max']:.0f} pods answer {at_target * gke['replicas_max']:,.0f}/s before the HPA can add no more."
    )
    yield from _pods(gke["measured"], gke, sizes)


def _pods(
    recommended: Mapping[str, float], given: Mapping[str, float], sizes: Mapping[float, Summary]
) -> Iterator[str]:
    """Compare the limits that the iris system had with those that were found to be better."""
    less, more = sizes[given["limit_cpu"]], sizes[recommended["limit_cpu"]]
    at_target = more["rate"] * recommended["request_cpu"] * recommended["cpu_target"] / recommended["limit_cpu"]
    yield (
        f"**Pods, as measured: requests of {recommended['request_cpu']:g}, limits of {recommended['limit_cpu']:g} CPU** "
        f"(`deploy/gke/measured`). At {more['used']:.0%} of their capacity p99 is {more['p99_ms']:.1f} ms instead of "
        f"{less['p99_ms']:.1f} ms, as no share is used up before the work is done; a start takes {median(more['starts']):.2f} s "
        f"instead of {median(less['starts']):.2f} s; the HPA adds a pod at {at_target:,.0f} answers/s a pod, half of what it can."
    )


def _concurrency(concurrency: int, size: Summary) -> Iterator[str]:
    """Compare requests in flight at the target with what the platform sends at a time."""
    flying = size["rate"] * size["used"] * size["p50_ms"] / 1000
    fits = "enough" if flying <= concurrency * TARGET else "too little"
    yield (
        f"**Concurrency: {concurrency}.** At {size['used']:.0%} of one CPU's capacity {flying:.1f} single rows are in flight "
        f"(Little: rate × median); the platform scales at {TARGET:.0%} of {concurrency}, which is {fits}. Batches of 1,000 rows "
        "set the upper bound, see DEPLOYMENT.md, 'Overload and concurrency'."
    )


def _cpu(sizes: Mapping[float, Summary], objective_ms: float) -> Iterator[str]:
    """Say from which size on the objective is kept, and what it costs to start there."""
    kept = [cpu for cpu, size in sizes.items() if size["p99_ms"] <= objective_ms]
    said = "; ".join(
        f"{cpu:g} CPU: p99 {size['p99_ms']:.1f} ms at {size['used']:.0%}, start {median(size['starts']):.2f} s"
        for cpu, size in sizes.items()
    )
    if kept:
        verdict = f"the objective of {objective_ms:.0f} ms is kept from {min(kept):g} CPU on"
    else:
        verdict = f"no size keeps the objective of {objective_ms:.0f} ms"
    yield f"**CPU: 1.** {said}; {verdict}. Cloud Run allows no more than one request at a time below 1 CPU."


def _memory(runs: Mapping[str, Summary], memory_mib: int) -> Iterator[str]:
    """Compare the most that was used with the limit."""
    used = {
        name: max(phase["memory_mb"] for phase in run["phases"] if phase["memory_mb"] is not None)
        for name, run in runs.items()
        if any(phase["memory_mb"] is not None for phase in run["phases"])
    }
    if used:
        most = max(used, key=used.__getitem__)
        share = used[most] / memory_mib
        verdict = "enough" if share <= MEMORY_RESERVE else "too little"
        yield (
            f"**Memory: {memory_mib} MiB.** The most in use was {used[most]:.0f} MiB ({most}), {share:.0%} of it, which is "
            f"{verdict}; `/tmp` with the bundle comes on top on Cloud Run."
        )
