"""A6, the part about memory: a hundred of the largest bodies that are refused, in a row, through every protocol."""

from __future__ import annotations

from tests.integration import refused
from tests.integration.refused import Refused
from tests.integration.servers import Server
from tests.integration.shots import forget_peak, peak_bytes
from tests.soak.input_stock import Bench, Result

IN_A_ROW, GROWTH_BYTES = 100, 64 << 20


def a6_in_a_row(bench: Bench) -> Result:
    """Send each kind of body again and again, compressed too, with and without the fast path."""
    lines, kept, worst = [], True, 0
    for fast_path in ("true", "false"):
        server = bench.server(purpose="A6 in a row", FAST_PATH=fast_path, **refused.SETTINGS)
        for name, request in refused.requests().items():
            for one in (request, request.packed()) if request.may_be_packed else (request,):
                grown, statuses = _grown(server, one)
                is_good = grown <= GROWTH_BYTES and statuses <= one.statuses
                kept, worst = kept and is_good, max(worst, grown)
                packed = ", packed" if one is not request else ""
                lines.append(
                    f"{'' if is_good else 'MISSED '}FAST_PATH={fast_path}, {name}{packed}: {sorted(statuses)}, "
                    f"at most +{grown / 2**20:.0f} MiB"
                )
    asked = f"{IN_A_ROW} refused bodies of 8 MiB in a row: at most +64 MiB"
    return Result("A6r", asked, f"{len(lines)} kinds, at most +{worst / 2**20:.0f} MiB", kept, lines)


def _grown(server: Server, request: Refused) -> tuple[int, set[int]]:
    """Send a body again and again; how much more memory than before the worker had at most, and the statuses."""
    (worker,) = server.workers()
    forget_peak(worker)
    before = peak_bytes(worker)
    statuses = {server.request("POST", request.path, request.body, request.headers).status for _ in range(IN_A_ROW)}
    # a worker that was killed has not refused anything
    return (peak_bytes(worker) - before if server.workers() == [worker] else 1 << 40), statuses
