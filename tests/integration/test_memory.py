"""A worker keeps its descriptors, its threads and its memory, whatever it is asked."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import Tell

from .conftest import Start
from .mixed import MIX, Client
from .servers import Server
from .test_watchdog import resident_bytes

WARM_UP, REQUESTS = 4_000, 20_000
# the heap of a process breathes; a leak of a request's body would show ten times over
GROWTH_BYTES = 8 << 20


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def test_20_000_mixed_requests_leave_nothing_behind(start: Start, bundles: dict[str, Path], tell: Tell) -> None:
    server: Server = start({"MODEL_URI": str(bundles["penguins"])})
    server.wait_until("/health/ready", 200)
    (worker,) = server.workers()
    client = Client(server.port)
    client.run(WARM_UP)
    before = descriptors(worker), threads(worker)
    resident = resident_bytes(worker)
    outcome = client.run(REQUESTS - WARM_UP)
    growth = resident_bytes(worker) - resident
    after = descriptors(worker), threads(worker)
    client.close()
    tell(f"L7: {growth} bytes more after {REQUESTS - WARM_UP} requests, {after[0]} descriptors, {after[1]} threads")

    assert (outcome.wrong, outcome.lost) == ({}, 0)
    assert set(outcome.statuses) == {status for _, _, status in MIX}
    assert (after, server.workers()) == (before, [worker])
    assert growth < GROWTH_BYTES
