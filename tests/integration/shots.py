"""Fires bodies at a real server, and looks at what came back, how long it took, and what memory it cost."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from . import hostile
from .servers import Answer, Server, exchange

REQUESTS_PER_CONNECTION = 50
# larger bodies have connections of their own: large ones on a used connection are a test of their own
TAIL_BYTES = 32 << 10
REPLY_BYTES = 16 << 10


@dataclass(frozen=True)
class Shot:
    """One body, what came back, and how long that took."""

    query: str
    body: bytes
    answer: Answer
    seconds: float


def fire(server: Server, count: int, seed: int) -> list[Shot]:
    """Send seeded bodies over keep-alive connections; large ones over connections of their own."""
    shots = []
    found = list(hostile.bodies(count, seed))
    for first in range(0, count, REQUESTS_PER_CONNECTION):
        with closing(server.connect()) as connection:
            for offset, (query, body) in enumerate(found[first : first + REQUESTS_PER_CONNECTION]):
                headers = {"Content-Type": "application/json", "X-Request-Id": f"shot-{first + offset}"}
                start = time.perf_counter()
                if len(body) < TAIL_BYTES:
                    answer = exchange(connection, "POST", f"/predict{query}", body, headers)
                else:
                    answer = server.request("POST", f"/predict{query}", body, headers)
                shots.append(Shot(query, body, answer, time.perf_counter() - start))
    return shots


def timed(server: Server, body: bytes, headers: dict[str, str] | None = None) -> Shot:
    """Send one body over a connection of its own."""
    start = time.perf_counter()
    answer = server.predict(body, "", headers)
    return Shot("", body, answer, time.perf_counter() - start)


def faults_of_refusal(answer: Answer) -> list[str]:
    """Return what an answer lacks of the form that every refusal has."""
    if answer.content_type != "application/problem+json":
        return [f"is {answer.content_type}"]
    body = answer.json()
    kept = {
        "another request id": body["request_id"] == answer.headers["x-request-id"] != "",
        "another status": body["status"] == answer.status,
        "too many errors": len(body.get("errors", [])) <= 20,
        "too long": len(answer.body) <= REPLY_BYTES,
    }
    return [fault for fault, is_kept in kept.items() if not is_kept]


def percentile(values: list[float], share: float) -> float:
    """Return the value at a share of the order."""
    return sorted(values)[round(share * (len(values) - 1))]


def peak_bytes(pid: int) -> int:
    """Return the most memory a process ever had, since it was last told to forget."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def forget_peak(pid: int) -> None:
    """Let the peak start over from what the process has now (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def grown_bytes(server: Server, pid: int, body: bytes, headers: dict[str, str] | None = None) -> tuple[Shot, int]:
    """Send one body, and return how much more memory than the body the worker had meanwhile."""
    forget_peak(pid)
    before = peak_bytes(pid)
    shot = timed(server, body, headers)
    return shot, peak_bytes(pid) - before - len(body)
