"""Words the report's sections on capacity, cost and scale-up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from load import objectives, sizing
from load.cells import FOLDER, number, table
from load.sizing import Capacity

Summary = Mapping[str, Any]


def capacity_section(capacity: Summary) -> str:
    """Lay out what was measured, and what the model says."""
    known = Capacity.measured(capacity["sizes"])
    rows = [
        [f"{size['cpu']:g}", number(size["rate"], 0), number(known.rate(size["cpu"]), 0)]
        + [number(size["p50_ms"], 2), number(size["p99_ms"], 1), size["how"]]
        for size in capacity["sizes"]
    ]
    rows.append(["2", "computed", number(known.rate(2), 0), "–", "–", "two workers on two cores; not measured"])
    pair, predicted = capacity["pair"], objectives.predicted_pair(capacity)
    used = capacity["sizes"][0]["used"]
    head = ["CPUs", "answers/s measured", "by the model", f"p50 at {used:.0%}, ms", f"p99 at {used:.0%}, ms", "limits"]
    return (
        "## Capacity\n\nOne row a request, closed loop, "
        f"{capacity['client']}; between the sizes the model goes straight, beyond them in proportion; on a whole CPU {1 / known.rate(1) * 1e6:.0f} µs an "
        f"answer.\n\n{table(head, rows)}\n![capacity]({FOLDER}/capacity.svg)\n\n"
        f"Two instances of {pair['cpu']:g} CPU behind a balancer: {number(predicted, 0)} answers/s predicted, "
        f"{number(pair['rate'], 0)} measured, an error of {objectives.prediction_error(capacity):.1%}.\n"
    )


def costs_section(capacity: Summary, deploy: Mapping[str, Any], prices: Mapping[str, Any]) -> str:
    """Price every profile."""
    known, cpu, gib = Capacity.measured(capacity["sizes"]), deploy["cpu"], deploy["memory_mib"] / 1024
    side = deploy["sidecar"]
    rows = []
    for profile in sizing.PROFILES:
        alone = sizing.cost(profile, known, cpu, gib, prices)
        beside = sizing.cost(profile, known, cpu, gib, prices, side["cpu"], side["memory_mib"] / 1024)
        count = max(known.instances(profile.peak, cpu), profile.min_instances)
        rows.append(
            [profile.name, f"{profile.mean:g} / {profile.peak:g}", str(count), str(profile.min_instances)]
            + [f"{cpu:g} CPU, {deploy['memory_mib']} MiB, {deploy['concurrency']}", alone.billing]
            + [number(alone.month, 2), number(alone.per_million, 3), number(beside.per_million, 3)]
            + [f"{alone.cold_share:.1%}"]
        )
    head = [
        "profile",
        "mean / peak, requests/s",
        "instances at peak",
        "min instances",
        "instance, concurrency",
        "cheaper billing",
    ]
    head += ["$ a month", "$ a million", "$ a million with the metrics sidecar", "requests that meet a start"]
    return (
        f"## Instances and cost on Cloud Run\n\nPrices of {prices['date']} (`load/prices.toml`), without free tier; an "
        f"instance is used to {sizing.TARGET:.0%}, as the autoscaler aims. Network is not in it.\n\n"
        + table(head, rows)
    )


def overload_section(run: Summary) -> str:
    """Lay out what was answered, and what the cost of refusing leaves to be answered at the most."""
    cost, share = run["refusal"], objectives.answered(run)
    kept = share / cost["bound"] if cost["bound"] else 1.0
    return (
        f"## Overload\n\nA batch takes {number(cost['answer_us'], 0)} µs of the instance's processor, as in the closed loop that "
        f"found the capacity of {number(run['capacity'])}/s; what the open loop took beyond that is the refusals': "
        f"{number(cost['refusal_us'], 0)} µs each, {cost['refusal_us'] / cost['answer_us']:.1%} of an answer. "
        f"{cost['came']:.1f} times the capacity came, which leaves {cost['bound']:.1%} of it to be answered at the most; "
        f"{share:.1%} was, {kept:.0%} of that bound.\n"
    )


def joined_section(joined: Summary) -> str:
    """Lay out what was measured while a second instance was started and joined."""
    rows = [
        [stage["name"], number(stage["seconds"]), number(stage["answered"]), str(stage["refused"])]
        + [number(stage["p50_ms"]), number(stage["p99_ms"])]
        for stage in joined["stages"]
    ]
    took = joined["scale_up_seconds"]
    return (
        f"## Scale-up, measured\n\nBatches of {joined['rows']} rows at {number(joined['rate'])}/s, "
        f"{joined['rate'] / joined['one']:.1f} times what one instance of {joined['cpu']:g} CPU answers, on connections of their "
        "own behind a balancer; after a while a second instance is started. "
        f"Spin-up, from its start to its first answer: {number(joined['spin_up_seconds'], 2)} s. "
        f"Scale-up, from the decision to the last refusal: {number(took, 2)} s. "
        f"Throughput once it is steady: {number(joined['stages'][-1]['answered']) if took is not None else '–'}/s.\n\n"
        + table(["stage", "seconds", "answers/s", "refused", "p50, ms", "p99, ms"], rows)
    )


def scale_up_section(capacity: Summary) -> str:
    """Lay out what callers meet while instances are added."""
    rows = [
        [found["platform"], found["profile"], str(found["requests"]), str(found["started"]), str(found["instances"])]
        + [str(found["waited_for_a_start"]), str(found["refused"])]
        + [number(found["p50_ms"], 2), number(found["p99_ms"], 2), number(found["worst_ms"], 0)]
        for found in capacity["scale_up"]
    ]
    head = [
        "platform",
        "profile",
        "requests",
        "starts",
        "instances",
        "waited for a start",
        "refused",
        "p50 ms",
        "p99 ms",
        "worst ms",
    ]
    return (
        "## Scale-up, simulated\n\nThe profile's mean rate rises to its peak at once, instances take the "
        "measured start, and the platforms follow their documented rules (`load/autoscale.py`). What platforms add to a "
        "start, such as pulling the image, is not in it; nor is the network.\n\n" + table(head, rows)
    )
