"""The promises about connections and the end of the process, B1 to B3 and L1 to L3, each with its number.

    python -m tests.soak.connections [--only B1,B2,B3,L1,L2,L3] [--quick]

prints a line for each and exits with 1 if one is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from tests.conftest import quick_spec
from tests.integration import hostile, servers
from tests.integration.framing import STATUS_LINE
from tests.integration.servers import Server
from tests.integration.test_protocol import INVALID
from tests.soak import damage, table
from tests.soak.connections_clients import attack, beside, flood, honest, summary, wait
from tests.soak.connections_end import l1, l2, l3
from tests.soak.integrity_stock import Result, scratch

VALID = hostile.VALID[0]


@contextlib.contextmanager
def serving(bundle: Path, root: Path, descriptors: int | None = None, **settings: str) -> Iterator[Server]:
    """A ready server of one's own; if given, with so many file descriptors."""
    folder = root / f"server-{time.monotonic_ns()}"
    folder.mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, hard))
    try:
        own = {"MODEL_URI": str(bundle), "MODEL_CACHE_DIR": str(folder / "cache"), **settings}
        server = servers.start(own, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        server.wait_until("/health/ready", 200)
        yield server
    finally:
        server.stop()


def b1(bundle: Path, root: Path, size: int = 1) -> Result:
    """Send invalid HTTP, whole and in pieces."""
    asked = "invalid HTTP: 0 answers 2xx, 0 answers 500"
    count, wrong = 0, []
    with serving(bundle, root) as server:
        workers = server.workers()
        wrong += [
            f"{name}: its control is not answered"
            for name, case in INVALID.items()
            if _statuses(server, [case.control]) != [200]
        ]
        for name, case in INVALID.items():
            raw = case.fault
            for piece in (len(raw), max(1, len(raw) // 3), max(1, len(raw) // 40))[: 1 if size == 0 else 3]:
                found = _statuses(server, [raw[i : i + piece] for i in range(0, len(raw), piece)])
                count += 1
                wrong += [f"{name}: {status}" for status in found if status < 300 or (status >= 500 and status != 501)]
        kept = not wrong and server.workers() == workers
    return Result("B1", asked, f"{count} sent ({len(INVALID)} kinds), {len(wrong)} answered wrongly", kept, wrong)


def _statuses(server: Server, parts: Sequence[bytes]) -> list[int]:
    """Send parts and return the status of every answer."""
    received = b""
    with server.open_socket() as sock:
        with contextlib.suppress(OSError):
            for part in parts:
                sock.sendall(part)
            sock.shutdown(1)
        with contextlib.suppress(ConnectionResetError):
            while chunk := sock.recv(65_536):
                received += chunk
    return [int(status) for status in STATUS_LINE.findall(received)]


def b2(bundle: Path, root: Path, count: int = 500, seconds: float = 30) -> Result:
    """Keep slow clients of every kind, all at once, beside honest ones."""
    asked = f"5 x {count} slow clients: honest 100 %, p99 < 250 ms; closed <= 10 s"
    with serving(bundle, root) as server:
        workers, lead = server.workers(), count / 100 + 1
        with beside(attack, server.port, count, seconds + lead) as result:
            wait(lead)
            seen = honest(server, 20, seconds)
            attackers = result()
        is_alive = server.workers() == workers
    lives = [life for found in attackers.lives.values() for life in found]
    longest = max([*lives, *attackers.left.values()], default=0.0)
    kinds = [kind for kind, found in attackers.lives.items() if not found]
    found = (
        f"{attackers.open_at_most} at once, {len(lives)} closed, longest {longest:.1f} s; honest "
        f"{len(seen.seconds) - len(seen.failures)}/{len(seen.seconds)}, p99 {seen.p99_ms:.0f} ms"
    )
    kept = is_alive and not seen.failures and seen.p99_ms < 250 and longest <= 10 and not kinds
    return Result("B2", asked, found, kept, [*summary(attackers.lives), *seen.failures[:5]])


def b3(bundle: Path, root: Path, count: int = 5000, seconds: float = 12) -> Result:
    """Open more connections than there are descriptors."""
    asked = f"{count} connections, 1,024 descriptors: alive, recovered <= 5 s, none leaked"
    with serving(bundle, root, descriptors=1024) as server:
        (worker,) = server.workers()
        assert server.predict(VALID).status == 200
        before, log_bytes, cpu = _settled(worker), _log_bytes(server), cpu_seconds(worker)
        with beside(flood, server.port, count, seconds) as result:
            wait(2)
            during = honest(server, 5, seconds / 2)
            made = result()
        ended = time.monotonic()
        used = cpu_seconds(worker) - cpu
        recovered = float("inf")
        while time.monotonic() < ended + 10 and recovered == float("inf"):
            with contextlib.suppress(OSError):
                # what is asked is counted among the descriptors, and what is refused writes lines
                if _settled(worker) <= before and server.predict(VALID).status == 200:
                    recovered = time.monotonic() - ended
        leaked = _settled(worker) - before
        written, is_alive = _log_bytes(server) - log_bytes, server.workers() == [worker]
    found = (
        f"{made} connected, alive {is_alive}, recovered {recovered:.1f} s, {leaked} leaked, "
        f"log {written / 1024:.0f} KiB, CPU {used:.1f} s"
    )
    lines = [
        f"honest clients meanwhile: {len(during.seconds) - len(during.failures)} of {len(during.seconds)}, "
        f"p99 {during.p99_ms:.0f} ms"
    ]
    kept = is_alive and recovered <= 5 and leaked <= 0 and written < 64 << 10 and used < seconds / 2
    return Result("B3", asked, found, kept, [*lines, *during.failures[:3]])


def _settled(pid: int) -> int:
    """Count what a process has open: the least within a moment, as it closes a connection a little after its client."""
    return min(_looked(pid) for _ in range(20))


def _looked(pid: int) -> int:
    """Count what a process has open now, a little later."""
    time.sleep(0.005)
    return len(os.listdir(f"/proc/{pid}/fd"))


def _log_bytes(server: Server) -> int:
    """Return how much it has written."""
    return sum((server.folder / name).stat().st_size for name in ("stdout", "stderr"))


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


Try = Callable[[Path, Path], Result]
LONG: Mapping[str, Try] = {"B1": b1, "B2": b2, "B3": b3, "L1": l1, "L2": l2, "L3": l3}
QUICK: Mapping[str, Try] = {
    "B1": lambda bundle, root: b1(bundle, root, 0),
    "B2": lambda bundle, root: b2(bundle, root, 50, 10),
    "B3": lambda bundle, root: b3(bundle, root, 2000, 4),
    "L1": lambda bundle, root: l1(bundle, root, 2),
    "L2": lambda bundle, root: l2(bundle, root, 1),
    "L3": l3,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.connections", description=__doc__)
    parser.add_argument("--only", default=",".join(LONG), metavar="B1,L2", help="promises to try (default: all)")
    parser.add_argument("--quick", action="store_true", help="shortened")
    given = parser.parse_args(arguments)
    names = table.names_of(parser, given.only, LONG)
    trials = QUICK if given.quick else LONG
    with scratch() as root:
        trained = damage.trained(quick_spec("penguins", root), root / "plain")
        bundle = root / "plain" / trained.manifest.name / trained.digest.removeprefix("sha256:")
        return table.run({name: partial(trials[name], bundle, root) for name in names})


if __name__ == "__main__":
    sys.exit(main())
