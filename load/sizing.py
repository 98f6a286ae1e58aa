"""How many instances a load needs and what they cost on Cloud Run: arithmetic on measured capacity, no measurement."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

PRICES = Path(__file__).with_name("prices.toml")
# Cloud Run's autoscaler keeps processors and concurrency at this share of what there is
TARGET = 0.6
# an idle instance is kept for so long at the most
IDLE_SECONDS = 15 * 60
MONTH_SECONDS = 30.4375 * 86_400


@dataclass(frozen=True)
class Profile:
    """Somebody's load.

    Attributes:
        name: who.
        mean: requests a second, over the month.
        peak: requests a second, in the busiest minutes.
        min_instances: recommended, kept warm.
    """

    name: str
    mean: float
    peak: float
    min_instances: int

    def times(self, factor: float) -> Profile:
        """Return the same profile with more of it."""
        return Profile(f"{self.name} × {factor:g}", self.mean * factor, self.peak * factor, self.min_instances)


_SHIPPED = (Profile("lab", 0.1, 1, 0), Profile("field app", 5, 20, 1), Profile("telemetry", 50, 500, 1))
PROFILES = tuple(profile for one in _SHIPPED for profile in (one, one.times(10)))


@dataclass(frozen=True)
class Capacity:
    """What an instance can do: straight lines between what was measured, from nothing at no processor.

    A share of a processor answers less than that share of what a whole one does: an instance that has used its share up
    stands still, and finds its caches cold afterwards. So no single figure for the work of an answer fits all sizes.

    Attributes:
        points: processors and answers a second, in order.
    """

    points: tuple[tuple[float, float], ...]

    @classmethod
    def measured(cls, sizes: Sequence[Mapping[str, Any]]) -> Capacity:
        """Take measured sizes, each with `cpu` and `rate`."""
        return cls(((0.0, 0.0), *sorted((float(size["cpu"]), float(size["rate"])) for size in sizes)))

    def rate(self, cpu: float) -> float:
        """Return the answers a second of one instance; beyond the measured sizes in proportion."""
        for (less, low), (more, high) in pairwise(self.points):
            if cpu <= more:
                return low + (high - low) * (cpu - less) / (more - less)
        most, rate = self.points[-1]
        return rate * cpu / most

    def instances(self, requests: float, cpu: float) -> int:
        """Return how many instances a rate needs, each used to `TARGET`; at least one."""
        return max(math.ceil(requests / (self.rate(cpu) * TARGET) - 1e-9), 1)


@dataclass(frozen=True)
class Cost:
    """What a month costs.

    Attributes:
        month: dollars with the cheaper billing.
        per_million: dollars for a million predictions.
        billing: which billing that is, `request` or `instance`.
        cold_share: of requests that wait for a start because no instance was there, 0..1.
    """

    month: float
    per_million: float
    billing: str
    cold_share: float


def cost(
    profile: Profile,
    capacity: Capacity,
    cpu: float,
    memory_gib: float,
    prices: Mapping[str, Any],
    sidecar_cpu: float = 0.0,
    sidecar_gib: float = 0.0,
) -> Cost:
    """Price a month of a load, with the cheaper of both billings.

    Requests come at random (Poisson). An instance is billed from the first request to the last, in steps: of an
    instance that gets r requests a second, a share 1 - exp(-r × (step + duration)) of the time. Without warm instances
    it is there for IDLE_SECONDS after the last request, else the next one starts it.
    """
    count = max(capacity.instances(profile.mean, cpu), profile.min_instances)
    each = profile.mean / count
    busy = 1 - math.exp(-each * (prices["billed_step_seconds"] + 1 / capacity.rate(cpu)))
    there = 1.0 if profile.min_instances else 1 - math.exp(-profile.mean * IDLE_SECONDS)
    millions = profile.mean * MONTH_SECONDS / 1e6
    request, instance = prices["request"], prices["instance"]
    paid_cpu, paid_gib = cpu + sidecar_cpu, memory_gib + sidecar_gib
    by_request = count * MONTH_SECONDS * busy * (paid_cpu * request["vcpu_second"] + paid_gib * request["gib_second"])
    kept = min(profile.min_instances, count) * MONTH_SECONDS * (1 - busy)
    by_request += kept * (paid_cpu * request["idle_vcpu_second"] + paid_gib * request["idle_gib_second"])
    by_request += millions * request["million_requests"]
    by_instance = (
        count * MONTH_SECONDS * there * (paid_cpu * instance["vcpu_second"] + paid_gib * instance["gib_second"])
    )
    by_instance += millions * instance["million_requests"]
    month, billing = min((by_request, "request"), (by_instance, "instance"))
    return Cost(month, month / millions, billing, 0.0 if profile.min_instances else 1 - there)


def prices() -> dict[str, Any]:
    """Read the price list."""
    return tomllib.loads(PRICES.read_text())
