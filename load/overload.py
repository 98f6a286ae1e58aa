"""Sends many times what an instance can answer, at fixed times, and keeps what became of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from load import processes
from load.connections import request_bytes
from load.openloop import Generator, Outcome
from load.servers import HOST, LoadError, Running, send
from load.servers import Post as Request
from load.traffic import Traffic

ROWS = 100
CONNECTIONS, CLOSED_CONNECTIONS = 256, 4
WARM_REQUESTS = 200
# of the open loop's length, for the closed one
CLOSED_SHARE = 0.5


@dataclass(frozen=True)
class Loaded:
    """What became of a load, and what it took.

    Attributes:
        outcome: of every request.
        cpu_seconds: processor time of the instance.
    """

    outcome: Outcome
    cpu_seconds: float

    @property
    def answered(self) -> int:
        """How many were answered."""
        return self.outcome.statuses[200]

    @property
    def refused(self) -> int:
        """How many were answered otherwise."""
        return len(self.outcome.latencies) - self.answered


def run(running: Running, traffic: Traffic, factor: float, seconds: float) -> dict[str, Any]:
    """Measure the capacity in a closed loop, then send a multiple of it.

    Batches are sent, as of single rows no client on this machine can send ten times what one core answers.

    Args:
        running: the instance.
        traffic: words the batch; its answer is compared with the golden rows.
        factor: of the capacity.
        seconds: of the open loop.

    Returns:
        `began` (seconds since the epoch), `capacity` (answers a second), `refusal` (see `refusal`) and `samples` by
        column, as users record them.

    Raises:
        LoadError: the batch is answered wrongly, or not at all.
    """
    call = traffic.batch_of(ROWS)
    wrong = call.check(*send(running.port, Request(call.path, call.body)))
    if wrong:
        raise LoadError(f"a batch of {ROWS}: {wrong}")
    payload, address = request_bytes(f"{HOST}:{running.port}", call.path, call.body), (HOST, running.port)
    warm = Generator(address, payload, CLOSED_CONNECTIONS).run(None, WARM_REQUESTS)
    closed = Generator(address, payload, CLOSED_CONNECTIONS)
    alone = _loaded(running, closed, None, int(warm.rate * seconds * CLOSED_SHARE))
    rate = alone.outcome.rate * factor
    began = time.time()
    under = _loaded(running, Generator(address, payload, CONNECTIONS, call.check), rate, int(rate * seconds))
    return {
        "began": began,
        "capacity": round(alone.outcome.rate, 2),
        "refusal": refusal(alone, under),
        "samples": columns(under.outcome),
        **under.outcome.summary(),
    }


def refusal(alone: Loaded, under: Loaded) -> dict[str, float]:
    """Say what a refusal costs, and what share of the capacity that leaves to be answered at the most.

    An answer takes w of the processor, as in the closed loop; what the open loop took beyond that is the refusals' r.
    Where k times the capacity arrives, the share x that can be answered takes x w + (k - x) r = w of the time, so
    x = (1 - k r / w) / (1 - r / w).

    Args:
        alone: a closed loop in which nothing was refused.
        under: an overload.
    """
    answer = alone.cpu_seconds / alone.answered
    each = max(under.cpu_seconds - under.answered * answer, 0.0) / max(under.refused, 1)
    came = len(under.outcome.latencies) / under.outcome.seconds / alone.outcome.rate
    share = each / answer
    return {
        "answer_us": round(answer * 1e6, 1),
        "refusal_us": round(each * 1e6, 1),
        "came": round(came, 2),
        "bound": round(min(1.0, came, max(0.0, (1 - came * share) / (1 - share))), 4),
    }


def _loaded(running: Running, generator: Generator, rate: float | None, requests: int) -> Loaded:
    """Load, and read what it took."""
    before = processes.cpu_seconds(running.pid)
    outcome = generator.run(rate, requests)
    return Loaded(outcome, processes.cpu_seconds(running.pid) - before)


def columns(outcome: Outcome) -> dict[str, list[Any]]:
    """Lay an open loop out as users' samples are: when each was due, how long it took, what was wrong."""
    lost = outcome.connection_errors + outcome.unanswered
    starts = [round(end - seconds, 6) for end, seconds in zip(outcome.ends, outcome.latencies, strict=True)]
    count = len(starts) + lost
    return {
        "start": [*starts, *[0.0] * lost],
        "seconds": [*(round(seconds, 6) for seconds in outcome.latencies), *[0.0] * lost],
        "kind": ["batch"] * count,
        "failure": [*outcome.wrongs, *["lost: no answer"] * lost],
        "trace_id": [""] * count,
        "predict_ms": [None] * count,
        "total_ms": [None] * count,
    }
