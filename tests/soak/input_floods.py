"""A6 with many clients: bodies held all at once, and bodies in chunks of a few bytes, beside honest callers."""

from __future__ import annotations

import contextlib
import socket
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from load import groups
from tests.integration.floods import HELD_BYTES, in_chunks_of, padded
from tests.integration.framing import STATUS_LINE
from tests.integration.servers import HOST
from tests.integration.shots import forget_peak, peak_bytes
from tests.soak.connections import cpu_seconds
from tests.soak.connections_clients import Honest, beside, honest, wait
from tests.soak.input_stock import Bench, Result

MIB = 1 << 20
LIMIT_BYTES = 512 * MIB
CONNECTIONS, CHUNKED_CONNECTIONS = 80, 16
# a quarter of the limit, what a growing buffer has more than it needs, and what a heap keeps
GROWTH_BYTES = 128 * MIB + 16 * MIB
HONEST_RATE, LEAD_SECONDS = 20.0, 2.0
CLIENT_SECONDS = 30.0

Found = Counter[str]


def a6h(bench: Bench) -> Result:
    """Hold 80 bodies of 8 MiB less a hundred bytes, again and again."""
    return _beside_honest(bench, "A6h", f"{CONNECTIONS} hold 8 MiB each", _hold, CONNECTIONS)


def a6c(bench: Bench) -> Result:
    """Send bodies of 8 MiB in chunks of 1 to 8 bytes over 16 connections."""
    return _beside_honest(bench, "A6c", f"{CHUNKED_CONNECTIONS} send tiny chunks", _send_chunks, CHUNKED_CONNECTIONS)


def _beside_honest(bench: Bench, name: str, what: str, attack: Callable[..., Found], count: int) -> Result:
    """Let clients attack a server that has 512 MiB, if it can be confined, and ask honestly meanwhile."""
    server = bench.server(purpose=name)
    (worker,) = server.workers()
    assert server.predict(padded()).status == 200
    with groups.memory(LIMIT_BYTES) as group:
        for pid in (server.pid, worker) if group else ():
            groups.enter(group, pid)
        forget_peak(worker)
        before, cpu = peak_bytes(worker), cpu_seconds(worker)
        with beside(attack, server.port, count, bench.attack_seconds + LEAD_SECONDS) as result:
            wait(LEAD_SECONDS)
            seen = honest(server, HONEST_RATE, bench.attack_seconds)
            statuses = result()
        grown, used = peak_bytes(worker) - before, cpu_seconds(worker) - cpu
        is_alive = server.workers() == [worker]
        after = server.predict(padded()).status
    kept = is_alive and not seen.failures and grown <= GROWTH_BYTES and after == 200 and statuses.total() > 0
    asked = f"{what}: same worker, honest 100 %, + <= {GROWTH_BYTES // MIB} MiB"
    found = f"{_share(seen)}, +{grown / MIB:.0f} MiB, CPU {used:.0f} s, same worker {is_alive}"
    confined = "512 MiB by control group" if group else "memory not limited: no control group can be made here"
    return Result(name, asked, found, kept, [confined, f"attackers: {dict(statuses)}", *seen.failures[:3]])


def _share(seen: Honest) -> str:
    """Say how many honest callers were answered, and how fast."""
    return f"honest {len(seen.seconds) - len(seen.failures)} of {len(seen.seconds)}, p99 {seen.p99_ms:.0f} ms"


def _hold(port: int, count: int, seconds: float) -> Found:
    """Announce a body, send all of it but a byte, and wait until the server has enough of it."""
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % HELD_BYTES
    return _many(port, count, seconds, [head + padded()[:-1]])


def _send_chunks(port: int, count: int, seconds: float) -> Found:
    """Send a large body in chunks of a few bytes, on the fast path's route and over the bridge."""
    targets = "/predict", "/predict?explain=false"
    return _many(port, count, seconds, [in_chunks_of(size, padded(), t) for size in (1, 2, 3, 5, 8) for t in targets])


def _many(port: int, count: int, seconds: float, requests: list[bytes]) -> Found:
    """Send requests over so many connections at once, anew whenever one ends; returns how often what was answered."""
    end = time.monotonic() + seconds

    def one(number: int) -> Found:
        found: Found = Counter()
        while (left := end - time.monotonic()) > 0:
            raw = requests[number % len(requests)]
            number += 1
            found[_send(port, raw, min(left + 1, CLIENT_SECONDS))] += 1
        return found

    with ThreadPoolExecutor(count) as pool:
        return sum(pool.map(one, range(count)), Counter())


def _send(port: int, raw: bytes, timeout_seconds: float) -> str:
    """Send a request and return the status that is answered, or what happened instead."""
    received = b""
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=timeout_seconds) as sock:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(raw)
        received = sock.recv(65_536)
    found = STATUS_LINE.match(received)
    return found[1].decode() if found else "no answer"
