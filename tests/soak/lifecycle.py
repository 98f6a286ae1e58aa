"""The promises about a worker's life, each with its number: killed, hung, crashed, leaking, stalled, out of memory.

    python -m tests.soak.lifecycle [--only L4,L5,L7,L8,L9]

prints a line for each and exits with 1 if one is missed; it takes about a quarter of an hour.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from random import Random

from load import groups
from tests.conftest import quick_spec
from tests.integration import faulty, servers
from tests.integration.mixed import ADELIE, Client, post
from tests.integration.servers import Server
from tests.integration.test_memory import descriptors, threads
from tests.integration.test_watchdog import older, resident_bytes, row, send
from tests.soak import damage, table
from tests.soak.integrity_stock import Result

KILLS, OUT_OF_MEMORY, STOPS = 10, 5, 3
REQUESTS, WARM_UP, SAMPLE = 1_000_000, 200_000, 2_000
SERVING_SECONDS, NORMAL_SECONDS = 2.0, 0.05
STARVED_SECONDS, STARVED_SHARE = 30.0, 0.05


class Stand:
    """A bundle, and servers of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        found = damage.trained(quick_spec("penguins", root), root / "bundles")
        self.bundle = root / "bundles" / "penguins" / found.digest.removeprefix("sha256:")
        self._numbers = itertools.count()

    @contextlib.contextmanager
    def server(self, **settings: str) -> Iterator[Server]:
        """Start a server of one's own whose engine fails on demand, and warm it up."""
        folder = self.root / f"server-{next(self._numbers)}"
        folder.mkdir()
        own = {
            "MODEL_URI": str(self.bundle), "MODEL_CACHE_DIR": str(folder / "cache"),
            "ROOKERY_BAKED_BUNDLE": str(folder / "none"),
        }  # fmt: skip
        server = servers.start({**own, **settings}, folder, arguments=faulty.ARGUMENTS)
        try:
            server.wait_until("/health/ready", 200)
            if "ROOKERY_PREDICT_SECONDS" not in settings:
                # the first explanation imports for longer than a short limit allows
                server.predict(ADELIE, "?explain=true")
            yield server
        finally:
            server.stop()


def events(server: Server, name: str) -> list[dict[str, object]]:
    """Return the lines of the log with a name."""
    return [line for line in map(json.loads, server.stdout_lines) if line["message"] == name]


def _until_served(server: Server, since: float) -> float:
    """Return the seconds from a moment until a prediction is answered."""
    while True:
        with contextlib.suppress(OSError, servers.http.client.HTTPException):
            if server.predict(ADELIE).status == 200:
                return time.monotonic() - since


def _until_normal(client: Client, since: float) -> float:
    """Return the seconds from a moment until a round of requests is answered as fast as ever."""
    while True:
        begin = time.monotonic()
        lost = client.outcome.lost
        client.round([(post(ADELIE), 200)] * 8)
        if time.monotonic() - begin < NORMAL_SECONDS and client.outcome.lost == lost:
            return time.monotonic() - since


def l4(stand: Stand) -> Result:
    """Kill the worker under load, at a random moment."""
    seeded, took, lost, wrong = Random(4), [], [], 0
    for _ in range(KILLS):
        with stand.server() as server:
            (worker,) = server.workers()
            client, killed = Client(server.port, seed=seeded.randrange(1 << 30)), []

            def kill(worker: int = worker, killed: list[float] = killed) -> None:
                os.kill(worker, signal.SIGKILL)
                killed.append(time.monotonic())

            timer = threading.Timer(seeded.uniform(0.2, 0.6), kill)
            timer.start()
            rounds = client.rounds(1 << 30)
            while not client.outcome.lost:
                next(rounds)
            took.append(_until_served(server, killed[0]))
            for _ in range(50):
                next(rounds)
            client.close()
            lost.append(client.outcome.lost)
            wrong += sum(client.outcome.wrong.values())
    found = f"{KILLS} kills: at most {max(lost)} of 8 lost, serving after at most {max(took):.2f} s, {wrong} wrong"
    kept = max(took) <= SERVING_SECONDS and max(lost) <= 8 and not wrong
    return Result("L4", "lost <= in flight (8), serving <= 2 s", found, kept)


def l5(stand: Stand) -> Result:
    """Hang and crash, in the loop and beside it, with the default limit and a short one."""
    lines, kept = [], True
    cases = [
        ("hangs", faulty.HANG, 1, 10), ("hangs", faulty.HANG, 600, 10), ("hangs", faulty.HANG, 1, 2),
        ("computes", faulty.SPIN, 1, 2), ("computes", faulty.SPIN, 600, 2), ("holds", faulty.HOLD, 1, 2),
        ("crashes", faulty.SEGFAULT, 1, 0), ("crashes", faulty.SEGFAULT, 600, 0),
    ]  # fmt: skip
    for word, mass, rows, limit in cases:
        with stand.server(ROOKERY_PREDICT_SECONDS=str(limit or 10)) as server:
            begin = time.monotonic()
            value = row(mass) if rows == 1 else {"instances": [row(mass)] * rows}
            send(server, post(value, request_id="the-one"))
            took = _until_served(server, begin)
            names = [event["request_ids"] for event in events(server, "worker.lost")]
            good = took <= limit + (1 if limit else SERVING_SECONDS) and names == [["the-one"]]
            kept &= good
            lines.append(f"{rows:>4} rows, {word:<9} limit {limit:>2} s: serving after {took:5.2f} s, named {names}")
    for word, mass in (("crashes", faulty.SEGFAULT), ("hangs", faulty.HANG)):
        home = stand.root / f"quarantine-{word}"
        home.mkdir()
        former = older(stand.bundle, home)
        pinned = f"sha256:{stand.bundle.name}"
        settings = {"MODEL_CACHE_DIR": str(home / "cache"), "FAULTY_DIGEST": pinned, "ROOKERY_PREDICT_SECONDS": "2"}
        with stand.server(**settings) as server:
            for _ in range(3):
                send(server, post(row(mass)))
                server.wait_until("/health/ready", 200)
            answer = server.predict(row(mass))
            serves = answer.headers.get("x-model-digest") == former
            kept &= serves and answer.status == 200
            lines.append(f"three times {word}: {answer.status}, last known good {'serves' if serves else 'NOT'}")
    return Result("L5", "named; serving <= limit + 1 s; quarantine", f"{len(lines)} cases", kept, lines)


def l7(stand: Stand) -> Result:
    """Ask a million times, and fit a line through the memory after the warm-up."""
    with stand.server() as server:
        (worker,) = server.workers()
        client, samples = Client(server.port), []
        before: tuple[int, int] | None = None
        begin = time.monotonic()
        for sent in client.rounds(REQUESTS):
            if sent >= WARM_UP and sent % SAMPLE < 8:
                before = before or (descriptors(worker), threads(worker))
                samples.append((sent, resident_bytes(worker)))
        seconds = time.monotonic() - begin
        after = descriptors(worker), threads(worker)
        client.close()
        same = server.workers() == [worker]
    slope = _slope(samples)
    outcome = client.outcome
    lines = [
        f"{dict(sorted(outcome.statuses.items()))}, {outcome.lost} lost, {sum(outcome.wrong.values())} wrong",
        f"{REQUESTS / seconds:.0f} requests/s, {samples[0][1] >> 20} MiB after the warm-up, {samples[-1][1] >> 20} MiB",
        f"descriptors and threads before {before}, after {after}",
    ]
    kept = slope < 1 and before == after and same and not outcome.lost and not outcome.wrong
    return Result(
        "L7", "slope < 1 byte a request", f"{slope:.3f} bytes a request over {len(samples)} looks", kept, lines
    )


def _slope(samples: Sequence[tuple[int, int]]) -> float:
    """Return the slope of the least-squares line."""
    x_mean = sum(x for x, _ in samples) / len(samples)
    y_mean = sum(y for _, y in samples) / len(samples)
    return sum((x - x_mean) * (y - y_mean) for x, y in samples) / sum((x - x_mean) ** 2 for x, _ in samples)


def l8(stand: Stand) -> Result:
    """Stop the whole server for 5 s, and let it have a twentieth of a processor for 30 s, under load."""
    lines, kept = [], True
    with stand.server(ROOKERY_PREDICT_SECONDS="2") as server:
        workers = server.workers()
        client = Client(server.port)
        for _ in range(STOPS):
            for pid in (server.pid, *workers):
                os.kill(pid, signal.SIGSTOP)
            timer = threading.Timer(5.0, lambda: [os.kill(pid, signal.SIGCONT) for pid in (server.pid, *workers)])
            begin = time.monotonic()
            timer.start()
            client.round([(post(ADELIE), 200)] * 7 + [(post({"instances": [ADELIE] * 600}), 200)])
            took = _until_normal(client, begin + 5)
            same = server.workers() == workers
            kept &= same and took <= SERVING_SECONDS
            lost, client.outcome.lost = client.outcome.lost, 0
            lines.append(
                f"stopped for 5 s (limit 2 s): normal after {took:.3f} s, worker {'kept' if same else 'ENDED'}, "
                f"{lost} of 8 requests lost with connections that were idle for as long"
            )
        client.close()
    with stand.server() as server, groups.processor(STARVED_SHARE) as group:
        workers = server.workers()
        client = Client(server.port)
        begin = time.monotonic()
        with _starved(group, [server.pid, *workers]):
            answered = 0
            while time.monotonic() - begin < STARVED_SECONDS:
                client.round([(post(ADELIE), 200)] * 6 + [(post({"instances": [ADELIE] * 10_000}), 200)] * 2)
                answered += 8
        since = time.monotonic()
        took = _until_normal(client, since)
        client.close()
        good = took <= SERVING_SECONDS and server.workers() == workers and not client.outcome.lost
        # a second batch would wait for longer than the budget: it is told to come back, which is no wrong answer
        refused, stuck = client.outcome.wrong.pop((200, 503), 0), events(server, "worker.stuck")
        good &= not client.outcome.wrong and not stuck
        kept &= good
        how = "its group" if group is not None else "stopping it again and again"
        is_same = server.workers() == workers
        lines.append(
            f"5 % of a processor for {since - begin:.0f} s ({how}): {answered} answers, {refused} of them 503, "
            f"{client.outcome.lost} lost, {dict(client.outcome.wrong)} wrong, {len(stuck)} called stuck, "
            f"normal after {took:.3f} s, worker {'kept' if is_same else 'ENDED'}"
        )
    return Result("L8", "no false kill, normal <= 2 s after", f"{len(lines)} stalls", kept, lines)


@contextlib.contextmanager
def _starved(group: Path | None, pids: Sequence[int]) -> Iterator[None]:
    """Give processes a twentieth of a processor: by their group, or by stopping them most of the time."""
    if group is not None:
        for pid in pids:
            groups.enter(group, pid)
        try:
            yield
        finally:
            groups.leave(group)
        return
    over = threading.Event()

    def starve() -> None:
        while not over.is_set():
            for number, seconds in ((signal.SIGSTOP, 0.095), (signal.SIGCONT, 0.005)):
                for pid in pids:
                    os.kill(pid, number)
                over.wait(seconds)
        for pid in pids:
            os.kill(pid, signal.SIGCONT)

    thread = threading.Thread(target=starve)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def l9(stand: Stand) -> Result:
    """Drive workers to the limit of their memory, under load."""
    took, lost, named = [], [], 0
    for seed in range(OUT_OF_MEMORY):
        with stand.server() as server:
            (worker,) = server.workers()
            with groups.memory(3 * resident_bytes(worker)) as group:
                if group is None:
                    return Result("L9", "named, serving <= 2 s", "no control group can be made here", False)
                for pid in (server.pid, worker):
                    groups.enter(group, pid)
                client, rounds, over = Client(server.port, seed=seed), 0, 0.0
                while not client.outcome.lost:
                    over = time.monotonic()
                    client.round([(post(ADELIE), 200)] * 7 + [(post(row(faulty.GROW)), 200)])
                    rounds += 1
                took.append(_until_served(server, over))
                for _ in client.rounds(400):
                    pass
                client.close()
                lost.append(client.outcome.lost)
                named += [event["reason"] for event in events(server, "worker.lost")] == ["out of memory"]
                server.stop()
    found = f"{named} of {OUT_OF_MEMORY} named, at most {max(lost)} of 8 lost, serving after at most {max(took):.2f} s"
    kept = named == OUT_OF_MEMORY and max(lost) <= 8 and max(took) <= SERVING_SECONDS
    return Result("L9", "named, lost <= in flight (8), serving <= 2 s", found, kept)


PARTS: dict[str, Callable[[Stand], Result]] = {"L4": l4, "L5": l5, "L7": l7, "L8": l8, "L9": l9}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.lifecycle", description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help="promises to try, separated by commas")
    chosen = table.names_of(parser, parser.parse_args(arguments).only, PARTS)
    with tempfile.TemporaryDirectory() as folder:
        stand = Stand(Path(folder))
        return table.run({name: partial(PARTS[name], stand) for name in chosen})


if __name__ == "__main__":
    sys.exit(main())
