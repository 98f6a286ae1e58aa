"""The promises about too much to do, each with its number: an open loop that does not slow down with the server.

    python -m tests.soak.overload [--only G1,G1c,G1r,G2,G3,G4,G5,G6,knee] [--seconds 30]

prints a line for each and exits with 1 if one is missed; it takes some minutes.
The server has the first core and the load the last one; nothing else may run beside it.
A control on each core tells stalls of the machine from the server's own (`tests.soak.stillness`).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from load import bundles, processes
from load.bundles import Bundle
from load.connections import request_bytes
from load.openloop import Generator, Outcome
from load.percentiles import percentile
from load.servers import HOST, ROOKERY, Running, send, serving
from service.config import Settings
from tests.conftest import quick_spec
from tests.integration import slow
from tests.soak import costly_requests, damage, table
from tests.soak.integrity_stock import Result
from tests.soak.stillness import Stillness, watched

ENGINE_SECONDS = 0.005
# most of the load's connections are spare, and would be closed and made anew all the time: that is measured by itself
SPARE = {"ROOKERY_HEADER_SECONDS": "300", "ROOKERY_IDLE_SECONDS": "300"}
SLOW = dataclasses.replace(ROOKERY, command=(*ROOKERY.command, *slow.ARGUMENTS))
CONNECTIONS = 256
REAL: dict[str, dict[str, str]] = {"short door": {}, "Flask alone": {"FAST_PATH": "false"}}
LOADS, REAL_LOADS = (2, 5, 10), (1.25, 1.5, 2)
BUDGET, MOST = Settings.wait_seconds, Settings.most_waiting
PROBES = ("/health/live", "/health/ready")
PROBE_RATE = 20
NORMAL_SECONDS, NORMAL_COUNT = 0.05, 20


@dataclasses.dataclass(frozen=True)
class Stand:
    """What is served and for how long it is loaded."""

    root: Path
    bundle: Bundle
    seconds: float

    @property
    def record(self) -> Path:
        """What was seen of the queue."""
        return self.root / "record.json"

    @contextmanager
    def server(self, engine_seconds: float = 0.0, **settings: str) -> Iterator[Running]:
        """Run a server whose queue is watched."""
        own = {"SLOW_ENGINE_SECONDS": str(engine_seconds), "SLOW_ENGINE_RECORD": str(self.record), **SPARE}
        with serving(SLOW, self.bundle, settings=own | settings) as running:
            yield running

    def payload(self, rows: int = 1) -> bytes:
        """Return a request for predictions."""
        found = self.bundle.instances(rows)
        return request_bytes(HOST, "/predict", json.dumps(found[0] if rows == 1 else {"instances": found}).encode())


def load(port: int, payload: bytes, connections: int, rate: float | None, requests: int) -> Outcome:
    """Load from this process's core."""
    return Generator((HOST, port), payload, connections).run(rate, requests)


@contextmanager
def beside() -> Iterator[ProcessPoolExecutor]:
    """Give another process for a second load."""
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn"), processes.become_load) as pool:
        yield pool


def capacity(running: Running, payload: bytes, connections: int, requests: int) -> float:
    """Return the answers a second of a closed loop, after a warm-up."""
    load(running.port, payload, connections, None, requests // 4)
    return load(running.port, payload, connections, None, requests).rate


def ms(samples: Sequence[float], percent: float = 99) -> float:
    """Return a percentile in milliseconds, 0 without samples."""
    return percentile(samples, percent) * 1000 if samples else 0.0


def describe(factor: float, outcome: Outcome, share: float) -> str:
    """Return what became of one load, in words."""
    good, refused = outcome.latencies_of(200), outcome.latencies_of(503)
    return (
        f"{factor:>5g} x: {share:4.0%} of capacity answered, {len(refused)} refused, p99 answered {ms(good):.0f} ms, "
        f"refused {ms(refused):.1f} ms, lost {outcome.connection_errors + outcome.unanswered}"
    )


def spared(outcome: Outcome, machine: Stillness) -> list[float]:
    """Return the latencies of the refusals that the machine did not hold up."""
    refused = [
        (outcome.began + end - seconds, outcome.began + end)
        for code, end, seconds in zip(outcome.codes, outcome.ends, outcome.latencies, strict=True)
        if code == 503
    ]
    return [end - due for due, end in refused if machine.spared(due, end)]


def overload(running: Running, stand: Stand, factor: float, rate: float, seconds: float) -> tuple[Outcome, bool, str]:
    """Send more than a server can answer; returns what became of it, whether all else holds, and what the machine did.

    Refusals are judged without those that a stall of the machine held up, unless those are most of them.
    """
    with watched() as machine:
        outcome = load(running.port, stand.payload(), CONNECTIONS, rate * factor, int(rate * factor * seconds))
    refused, own = outcome.latencies_of(503), spared(outcome, machine)
    judged = own if machine.has_priority and 2 * len(own) >= len(refused) else refused
    kept = [
        set(outcome.statuses) <= {200, 503},
        not outcome.connection_errors + outcome.unanswered,
        ms(judged) < 10,
        ms(outcome.latencies_of(200)) <= 2 * BUDGET * 1000,
    ]
    told = machine.describe(outcome.began, outcome.began + outcome.seconds)
    return outcome, all(kept), f"; {len(own)} refusals met no stall of it, p99 {ms(own):.1f} ms; {told}"


def g1(stand: Stand) -> Result:
    """Answer as much as is possible, whatever comes."""
    lines, kept, worst = [], True, 1.0
    with stand.server(ENGINE_SECONDS) as running:
        most = capacity(running, stand.payload(), 4, 800)
        lines.append(f"engine of 5 ms: capacity {most:.0f}/s")
        for factor in LOADS:
            outcome, rest, machine = overload(running, stand, factor, most, stand.seconds)
            share = outcome.statuses[200] / outcome.seconds / most
            worst = min(worst, share)
            kept &= share >= 0.9 and rest
            lines.append(describe(factor, outcome, share) + machine)
    return Result(
        "G1", ">= 90 % of capacity, refused p99 < 10 ms", f"at least {worst:.0%} with the test engine", kept, lines
    )


def g1_anew(stand: Stand) -> Result:
    """The same with idle connections closed after seconds, as by default: clients connect anew all the time."""
    usual = {name: str(Settings().header_seconds if "HEADER" in name else Settings().idle_seconds) for name in SPARE}
    with stand.server(ENGINE_SECONDS, **usual) as running:
        most = capacity(running, stand.payload(), 4, 800)
        outcome, kept, machine = overload(running, stand, LOADS[-1], most, stand.seconds / 2)
    share = outcome.statuses[200] / outcome.seconds / most
    refused = f"{share:.0%} of capacity, refused p99 {ms(outcome.latencies_of(503)):.1f} ms"
    lines = [describe(LOADS[-1], outcome, share) + machine]
    return Result("G1c", "refused p99 < 10 ms, 0 lost, connecting anew", refused, kept, lines)


def g1_real(stand: Stand) -> Result:
    """The same with real requests of one row, where a refusal is not free."""
    lines, kept = [], True
    for name, settings in REAL.items():
        with stand.server(**settings, SLOW_ENGINE_REFUSES="true") as running:
            refusing = capacity(running, stand.payload(), 64, 8_000)
        with stand.server(**settings) as running:
            most = capacity(running, stand.payload(), 64, 8_000)
            ratio = most / refusing
            lines.append(f"{name}: capacity {most:.0f}/s, a refusal costs {ratio:.2f} of an answer")
            for factor in REAL_LOADS:
                outcome, rest, machine = overload(running, stand, factor, most, stand.seconds / 6)
                share = outcome.statuses[200] / outcome.seconds / most
                # what came, where the client is slower than it should be
                came = outcome.rate / most
                bound = min(1.0, came, max(0.0, (1 - came * ratio) / (1 - ratio)))
                kept &= share >= 0.9 * bound and rest
                lines.append(
                    f"{describe(factor, outcome, share)}; {came:.2f} x came, the bound is {bound:.0%}{machine}"
                )
    return Result("G1r", ">= 90 % of the bound, refused p99 < 10 ms", f"{len(lines)} lines", kept, lines)


def g2(stand: Stand) -> Result:
    """Never let more wait than may, nor answer who has waited for too long."""
    found, kept = [], True
    for settings in ({}, {"ROOKERY_MAX_WAITING": "8"}, {"ROOKERY_WAIT_SECONDS": "0.05"}):
        with stand.server(ENGINE_SECONDS, **settings) as running:
            load(running.port, stand.payload(), CONNECTIONS, 5 / ENGINE_SECONDS, int(5 / ENGINE_SECONDS * 5))
        seen = json.loads(stand.record.read_text())
        limit = int(settings.get("ROOKERY_MAX_WAITING", MOST))
        violations = seen["late"] + seen["twice"] + max(0, seen["most_waiting"] - limit)
        kept &= not violations and seen["answered"] > 0
        found.append(f"{settings or 'as by default'}: {seen}, {violations} violations")
    return Result("G2", "0 violations", f"{len(found)} settings", kept, found)


def g3(stand: Stand) -> Result:
    """Answer probes at ten times the capacity."""
    lines, kept = [], True
    seconds = stand.seconds / 3
    with stand.server(ENGINE_SECONDS) as running, beside() as pool:
        rate = 10 * capacity(running, stand.payload(), 4, 400)
        main = pool.submit(load, running.port, stand.payload(), CONNECTIONS, rate, int(rate * seconds))
        for path in PROBES:
            get = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
            outcome = load(running.port, get, 2, PROBE_RATE, int(PROBE_RATE * seconds / 2 * 0.9))
            kept &= dict(outcome.statuses).keys() == {200} and not outcome.failures and ms(outcome.latencies) < 100
            lines.append(f"{path}: {dict(outcome.statuses)}, p99 {ms(outcome.latencies):.0f} ms")
        lines.append(f"beside {dict(main.result().statuses)} predictions")
    return Result("G3", "100 % 200, p99 < 100 ms", lines[0], kept, lines)


def g4(stand: Stand) -> Result:
    """Let single rows be answered beside batches of 10,000."""
    batch = stand.payload(10_000)
    with stand.server() as running, beside() as pool:
        capacity(running, stand.payload(), 20, 2_000)
        capacity(running, batch, 1, 8)
        alone = load(running.port, stand.payload(), 20, None, 20_000)
        main = pool.submit(load, running.port, batch, 1, None, 150)
        shared = load(running.port, stand.payload(), 20, None, 20_000)
        batches = main.result()
    ratio = ms(shared.latencies) / ms(alone.latencies)
    lines = [
        f"one row: p99 {ms(alone.latencies):.2f} ms and {alone.rate:.0f}/s alone, "
        f"{ms(shared.latencies):.2f} ms and {shared.rate:.0f}/s beside {batches.rate:.1f} batches/s {batches.statuses}",
        f"p50 {ms(alone.latencies, 50):.2f} and {ms(shared.latencies, 50):.2f} ms",
    ]
    kept = ratio <= 3 and shared.statuses[200] == len(shared.latencies)
    return Result("G4", "small p99 <= 3 x alone", f"{ratio:.1f} x", kept, lines)


def g5(stand: Stand) -> Result:
    """Be as before soon after an overload."""
    with stand.server(ENGINE_SECONDS) as running:
        rate = 10 * capacity(running, stand.payload(), 4, 400)
        load(running.port, stand.payload(), CONNECTIONS, rate, int(rate * stand.seconds / 6))
        since, streak = time.monotonic(), 0
        while streak < NORMAL_COUNT and time.monotonic() < since + 30:
            begin = time.monotonic()
            status, _ = send(running.port, SLOW.one(stand.bundle.golden[0][0]))
            streak = streak + 1 if status == 200 and time.monotonic() - begin < NORMAL_SECONDS else 0
        took = time.monotonic() - since
    return Result("G5", "normal in <= 2 s", f"{NORMAL_COUNT} normal answers after {took:.2f} s", took <= 2)


def knee(stand: Stand) -> Result:
    """Show what more clients at a time bring, to choose the concurrency of an instance."""
    lines = []
    with stand.server() as running:
        for rows, requests in ((1, 6_000), (1_000, 150)):
            payload = stand.payload(rows)
            for clients in (1, 2, 4, 8, 16, 32, 64, 128):
                outcome = load(running.port, payload, clients, None, max(requests, 2 * clients))
                good = outcome.latencies_of(200)
                lines.append(
                    f"{rows:>5} rows, {clients:>3} clients: {len(good) / outcome.seconds:>7.0f}/s, "
                    f"p50 {ms(good, 50):7.2f} ms, p99 {ms(good):7.2f} ms, {outcome.statuses[503]} refused"
                )
    return Result("knee", "a table", "", kept=True, lines=lines)


def g6(stand: Stand) -> Result:
    """Answer single rows beside small requests that cost much."""
    with stand.server() as fast, stand.server(FAST_PATH="false") as plain:
        return costly_requests.g6({"fast": fast.port, "plain": plain.port}, stand.payload())


PARTS: dict[str, Callable[[Stand], Result]] = {
    "G1": g1,
    "G1c": g1_anew,
    "G1r": g1_real,
    "G2": g2,
    "G3": g3,
    "G4": g4,
    "G5": g5,
    "G6": g6,
    "knee": knee,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.overload", description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help="parts to run, separated by commas")
    parser.add_argument("--seconds", type=float, default=30, help="of each load with the test engine (default: 30)")
    given = parser.parse_args(arguments)
    chosen = table.names_of(parser, given.only, PARTS)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        damage.trained(quick_spec("penguins", root), root / "bundles")
        processes.become_load()
        stand = Stand(root, bundles.read(root / "bundles" / "penguins"), given.seconds)
        return table.run({name: partial(PARTS[name], stand) for name in chosen})


if __name__ == "__main__":
    sys.exit(main())
