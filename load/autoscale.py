"""What callers meet while instances are added: a simulation under Cloud Run's and Kubernetes' documented rules.

Requests come at random at the profile's mean rate, and from `RISE_SECONDS` on at its peak.
Each takes the measured work of an instance that answers one after the other.
An instance that is started serves after the measured start.

Cloud Run (cloud.google.com/run/docs/about-instance-autoscaling): a request that finds every instance at its concurrency
waits for one that is started for it; besides, the number follows the processors' use of the last minute, aimed at 60 %.
Horizontal pod autoscaler (kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale): every 15 s the number is
ceil(pods × use / target) unless that is within 10 %, and grows by at most 4 pods or twofold, whichever is more.
Nothing is known here of time to schedule, to pull an image or to make a node: both platforms add it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from load.percentiles import percentile

SEED = 20260102
RISE_SECONDS, AFTER_SECONDS = 10.0, 40.0
WINDOW_SECONDS, CHECK_SECONDS = 60.0, 5.0
SYNC_SECONDS, TOLERANCE, MOST_PODS = 15.0, 0.1, 4


@dataclass
class Instance:
    """An instance: when it serves, and until when it is busy."""

    ready: float
    free: float


@dataclass
class Fleet:
    """Instances under one platform's rules.

    Attributes:
        work: seconds each answer takes.
        start: seconds until a new instance serves.
        most: instances there may be.
        wait: longest wait in an instance's queue before it refuses.
        concurrency: requests the platform sends to one instance at a time; 0 for no limit.
        busy: (time, seconds of work) of what was taken on.
    """

    work: float
    start: float
    most: int
    wait: float
    concurrency: int
    instances: list[Instance] = field(default_factory=list)
    busy: list[tuple[float, float]] = field(default_factory=list)
    started: int = 0

    def grow(self, now: float, wanted: int) -> None:
        """Start instances until there are so many."""
        while len(self.instances) < min(wanted, self.most):
            self.instances.append(Instance(now + self.start, now + self.start))
            self.started += 1

    def take(self, now: float) -> float | None:
        """Answer a request that comes now; returns when, or None if it is refused."""
        ready = [one for one in self.instances if self.concurrency or one.ready <= now]
        if self.concurrency and all(self._queued(one, now) >= self.concurrency for one in ready):
            self.grow(now, len(self.instances) + 1)
            ready = self.instances
        if not ready:
            return None
        chosen = min(ready, key=lambda one: max(one.free, now))
        begin = max(chosen.free, now)
        if begin - max(now, chosen.ready) > self.wait:
            return None
        chosen.free = begin + self.work
        self.busy.append((now, self.work))
        return chosen.free

    def used(self, now: float, window: float) -> float:
        """Return the mean number of busy instances over the last seconds."""
        since = max(now - window, 0.0)
        total = 0.0
        for when, work in reversed(self.busy):
            if when < since:
                break
            total += work
        return total / max(now - since, 1e-9)

    def _queued(self, one: Instance, now: float) -> float:
        """Return how many requests one instance has before it."""
        return (one.free - max(now, one.ready)) / self.work


def fleet(work: float, start: float, most: int, wait: float, concurrency: int, warm: int) -> Fleet:
    """Return a fleet with some instances that serve already."""
    return Fleet(work, start, most, wait, concurrency, [Instance(0.0, 0.0) for _ in range(warm)])


def cloud_run(fleet: Fleet, now: float) -> None:
    """Follow the processors' use of the last minute."""
    fleet.grow(now, math.ceil(fleet.used(now, WINDOW_SECONDS) / 0.6 - 1e-9))


def pod_autoscaler(target: float) -> Callable[[Fleet, float], None]:
    """Return the rule that follows the use of the last 15 seconds.

    Args:
        target: use of a pod's whole capacity at which the number stays: the HPA's target × request / limit.
    """

    def follow(fleet: Fleet, now: float) -> None:
        count = len(fleet.instances)
        ratio = fleet.used(now, SYNC_SECONDS) / count / target
        if ratio > 1 + TOLERANCE:
            fleet.grow(now, min(math.ceil(count * ratio), count + max(MOST_PODS, count)))

    return follow


def simulate(
    fleet: Fleet, follow: Callable[[Fleet, float], None], every: float, mean: float, peak: float
) -> dict[str, Any]:
    """Let requests come and tell what became of those of the peak.

    Args:
        fleet: as it is before; instances it has are warm.
        follow: the platform's rule.
        every: seconds between two looks of it.
        mean: requests a second before the rise.
        peak: after it.
    """
    draw = random.Random(SEED)  # noqa: S311 (nothing secret)
    now, look = 0.0, every
    latencies: list[float] = []
    refused = 0
    end = RISE_SECONDS + AFTER_SECONDS
    while True:
        now += draw.expovariate(mean if now < RISE_SECONDS else peak)
        if now > end:
            break
        while look <= now:
            follow(fleet, look)
            look += every
        done = fleet.take(now)
        if now < RISE_SECONDS and fleet.instances and fleet.started == 0:
            continue
        if done is None:
            refused += 1
        else:
            latencies.append(done - now)
    late = sum(latency > fleet.start / 2 for latency in latencies)
    return {
        "requests": len(latencies) + refused,
        "refused": refused,
        "started": fleet.started,
        "instances": len(fleet.instances),
        "waited_for_a_start": late,
        "p50_ms": round(percentile(latencies, 50) * 1000, 3) if latencies else None,
        "p99_ms": round(percentile(latencies, 99) * 1000, 3) if latencies else None,
        "worst_ms": round(max(latencies) * 1000, 3) if latencies else None,
    }
