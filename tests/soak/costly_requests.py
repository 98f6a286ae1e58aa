"""G6: clients whose small requests cost much, beside the single rows of others; a part of `tests.soak.overload`."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from load import processes
from load.openloop import Generator
from load.percentiles import percentile
from tests.integration import costly
from tests.integration.servers import HOST
from tests.soak.integrity_stock import Result

RATE, LIMIT_SECONDS = 20, 0.25
# each name stands for one client
TRIALS = (*((name,) * costly.CLIENTS for name in costly.COSTLY), costly.TOGETHER)


def g6(ports: dict[str, int], payload: bytes) -> Result:
    """Try every kind of costly request, and those of different kinds together.

    Args:
        ports: name → where a server listens.
        payload: a request for a single row.
    """
    lines, kept, worst = [], True, 0.0
    with ProcessPoolExecutor(costly.CLIENTS, get_context("spawn"), processes.become_load) as pool:
        for server, port in ports.items():
            for names in TRIALS:
                slowest, line = _try(pool, port, payload, names)
                is_good = slowest <= LIMIT_SECONDS
                kept, worst = kept and is_good, max(worst, slowest)
                lines.append(f"{'' if is_good else 'MISSED '}{server}, {line}")
    asked = f"{costly.HONEST} of {costly.HONEST} single rows 200 within {LIMIT_SECONDS * 1000:.0f} ms"
    return Result("G6", asked, f"{len(lines)} trials, at most {worst * 1000:.0f} ms", kept, lines)


def _try(pool: ProcessPoolExecutor, port: int, payload: bytes, names: tuple[str, ...]) -> tuple[float, str]:
    """Ask for single rows beside costly requests; the longest that one took, endless if one was not answered."""
    seconds = costly.HONEST / RATE
    clients = [pool.submit(costly.send_for, port, name, seconds + 1) for name in names]
    outcome = Generator((HOST, port), payload, costly.CLIENTS).run(RATE, costly.HONEST)
    others = sum((client.result() for client in clients), Counter[int]())
    good = outcome.latencies_of(200)
    slowest = max(good) if len(good) == costly.HONEST else float("inf")
    told = f"{len(good)} of {costly.HONEST}, p50 {percentile(good, 50) * 1000:.1f} ms" if good else "none"
    return slowest, f"{' + '.join(sorted(set(names)))}: {told}, at most {slowest * 1000:.0f} ms, beside {dict(others)}"
