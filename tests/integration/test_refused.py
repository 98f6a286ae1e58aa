"""What is refused is let go: the largest bodies, one after another, through every protocol."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Tell

from . import refused
from .conftest import Start
from .refused import Refused
from .servers import Server
from .shots import forget_peak, peak_bytes
from .test_watchdog import resident_bytes

# one body that stays each time would be more than is allowed
IN_A_ROW = 12
GROWTH_BYTES = 64 << 20


def _grown(server: Server, worker: int, request: Refused) -> int:
    """Send a request again and again, and return how much more memory than before the worker had at most."""
    control = server.request("POST", request.path, request.control, request.control_headers or request.headers)
    assert control.status in (request.statuses if request.is_nowhere else {200, 202})
    forget_peak(worker)
    before = resident_bytes(worker)
    for _ in range(IN_A_ROW):
        assert server.request("POST", request.path, request.body, request.headers).status in request.statuses
    return peak_bytes(worker) - before


@pytest.mark.parametrize("fast_path", ["true", "false"])
def test_large_bodies_that_are_refused_in_a_row_leave_nothing_behind(
    start: Start, bundles: dict[str, Path], tell: Tell, fast_path: str
) -> None:
    server = start({"MODEL_URI": str(bundles["penguins"]), "FAST_PATH": fast_path, **refused.SETTINGS})
    server.wait_until("/health/ready", 200)
    (worker,) = server.workers()
    grown = {}
    for name, request in refused.requests().items():
        if name in refused.SHORT:
            grown[name] = _grown(server, worker, request)
            if request.may_be_packed:
                grown[f"{name}, packed"] = _grown(server, worker, request.packed())
    worst = max(grown, key=lambda name: grown[name])
    tell(f"A6: {len(grown)} kinds, {IN_A_ROW} in a row of each: at most +{grown[worst] / 2**20:.0f} MiB ({worst})")
    assert server.workers() == [worker]
    assert {name: size for name, size in grown.items() if size > GROWTH_BYTES} == {}
