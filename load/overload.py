"""Sends many times what an instance can answer, at fixed times, and keeps what became of it."""

from __future__ import annotations

import time
from typing import Any

from load.connections import request_bytes
from load.openloop import Generator, Outcome
from load.servers import HOST, LoadError, Running, send
from load.servers import Post as Request
from load.traffic import Traffic

ROWS = 100
CONNECTIONS, CLOSED_CONNECTIONS, CLOSED_REQUESTS = 256, 4, 200


def run(running: Running, traffic: Traffic, factor: float, seconds: float) -> dict[str, Any]:
    """Measure the capacity in a closed loop, then send a multiple of it.

    Batches are sent, as of single rows no client on this machine can send ten times what one core answers.

    Args:
        running: the instance.
        traffic: words the batch; its answer is compared with the golden rows.
        factor: of the capacity.
        seconds: of the open loop.

    Returns:
        `began` (seconds since the epoch), `capacity` (answers a second) and `samples` by column, as users record them.

    Raises:
        LoadError: the batch is answered wrongly, or not at all.
    """
    call = traffic.batch_of(ROWS)
    wrong = call.check(*send(running.port, Request(call.path, call.body)))
    if wrong:
        raise LoadError(f"a batch of {ROWS}: {wrong}")
    payload = request_bytes(f"{HOST}:{running.port}", call.path, call.body)
    address = (HOST, running.port)
    capacity = Generator(address, payload, CLOSED_CONNECTIONS).run(None, CLOSED_REQUESTS).rate
    rate = capacity * factor
    began = time.time()
    outcome = Generator(address, payload, CONNECTIONS, call.check).run(rate, int(rate * seconds))
    return {"began": began, "capacity": round(capacity, 2), "samples": columns(outcome), **outcome.summary()}


def columns(outcome: Outcome) -> dict[str, list[Any]]:
    """Lay an open loop out as users' samples are: when each was due, how long it took, what was wrong."""
    lost = outcome.connection_errors + outcome.unanswered
    starts = [round(end - seconds, 6) for end, seconds in zip(outcome.ends, outcome.latencies, strict=True)]
    return {
        "start": [*starts, *[0.0] * lost],
        "seconds": [*(round(seconds, 6) for seconds in outcome.latencies), *[0.0] * lost],
        "kind": ["batch"] * (len(starts) + lost),
        "failure": [*outcome.wrongs, *["lost: no answer"] * lost],
        "predict_ms": [None] * (len(starts) + lost),
        "total_ms": [None] * (len(starts) + lost),
    }
