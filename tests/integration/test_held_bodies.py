"""What many clients make a worker hold is bounded together, and framing costs no more than what it carries."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Tell

from . import hostile
from .conftest import Start
from .floods import BODY, held_bodies, in_chunks_of, padded
from .framing import exchange_raw, statuses
from .hostile import LIMIT_BYTES
from .servers import Server, receive
from .shots import forget_peak, peak_bytes

MIB = 1 << 20
# without a limit of the control group: a quarter of 512 MiB, of which large bodies may have three quarters
BUDGET_BYTES = 128 * MIB
TAKEN = BUDGET_BYTES * 3 // 4 // LIMIT_BYTES
# a buffer that grows has up to an eighth more than it needs, and the heap of a process breathes
GROWTH_BYTES = BUDGET_BYTES + 16 * MIB


@pytest.fixture
def server(start: Start, bundles: dict[str, Path]) -> Server:
    """A server whose budget does not depend on the control group that the tests run in."""
    found = start({"MODEL_URI": str(bundles["penguins"]), "ROOKERY_BODY_MEMORY_BYTES": str(BUDGET_BYTES)})
    found.wait_until("/health/ready", 200)
    return found


@pytest.mark.parametrize("target", ["/predict", "/predict?explain=false", "/nowhere"])
def test_80_connections_hold_no_more_bodies_than_there_is_memory_for(server: Server, target: str, tell: Tell) -> None:
    (worker,) = server.workers()
    assert server.predict(padded()).status == 200
    forget_peak(worker)
    before = peak_bytes(worker)
    with held_bodies(server, 80, target) as held:
        honest = [server.predict(hostile.ADELIE).status for _ in range(60)]
        small = [server.predict(padded(20_000)).status for _ in range(20)]
        large = server.predict(padded())
        grown = peak_bytes(worker) - before
        # one of those that are held comes to its end, and another one has room
        held.taken[0].sendall(b" ")
        last = receive(held.taken[0])
        after = server.predict(padded())
    tell(
        f"A6: {target}: {len(held.taken)} held, {dict(held.answers)}, +{grown / MIB:.0f} MiB, "
        f"honest {honest.count(200)} of 60"
    )

    assert (len(held.taken), dict(held.answers), held.faults) == (TAKEN, {503: 80 - TAKEN}, [])
    assert (honest, small) == ([200] * 60, [200] * 20)
    assert (large.status, large.codes) == (503, [("", "overloaded")])
    assert (last.status, after.status) == (404 if target == "/nowhere" else 200, 200)
    assert grown < GROWTH_BYTES
    # all of it is released with the connections
    with held_bodies(server, TAKEN + 1) as again:
        assert (len(again.taken), dict(again.answers)) == (TAKEN, {503: 1})
    assert server.workers() == [worker]


def test_a_body_in_chunks_is_refused_when_there_is_no_more_memory(server: Server) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with held_bodies(server, TAKEN) as held, server.open_socket() as sock:
        assert len(held.taken) == TAKEN
        sock.sendall(head + b"%x\r\n" % MIB + b" " * MIB)
        answer = receive(sock)
        assert (answer.status, answer.codes, answer.headers["connection"]) == (503, [("", "overloaded")], "close")
        assert (answer.headers["retry-after"], sock.recv(1)) == ("1", b"")
    assert statuses(server, in_chunks_of(65_536, padded(MIB))) == [200]


@pytest.mark.parametrize("count", [1, 600])
def test_heads_count_too(start: Start, bundles: dict[str, Path], count: int, tell: Tell) -> None:
    server = start({"MODEL_URI": str(bundles["penguins"]), "ROOKERY_BODY_MEMORY_BYTES": str(16 * MIB)})
    server.wait_until("/health/ready", 200)
    head = b"GET /health/live HTTP/1.1\r\nHost: x\r\n" + b"X-A: %s\r\n" % (b"a" * 600) * 90
    socks = [server.open_socket() for _ in range(count)]
    try:
        for sock in socks:
            sock.sendall(head)
        honest = [server.predict(hostile.ADELIE).status for _ in range(20)]
        found = []
        for sock in socks:
            sock.sendall(b"\r\n")
            found.append(receive(sock).status)
    finally:
        for sock in socks:
            sock.close()
    taken = min(count, 16 * MIB * 3 // 4 // len(head))
    tell(f"A6: {found.count(200)} heads of {len(head)} bytes held, {found.count(503)} refused")
    assert (found.count(200), found.count(503)) == (taken, count - taken)
    assert honest == [200] * 20


# --- chunks of a few bytes


@pytest.mark.parametrize("target", ["/predict", "/predict?explain=false", "/v2/models/penguins/infer"])
@pytest.mark.parametrize("size_bytes", [1, 2, 3])
def test_a_large_body_in_tiny_chunks_is_refused_early(server: Server, target: str, size_bytes: int, tell: Tell) -> None:
    (worker,) = server.workers()
    raw = in_chunks_of(size_bytes, padded(), target)
    forget_peak(worker)
    before = peak_bytes(worker)
    answer = exchange_raw(server, raw, says_end=False)
    grown = peak_bytes(worker) - before

    tell(f"A6: {len(raw) / MIB:.0f} MiB in chunks of {size_bytes}: {answer[:12].decode()}, +{grown / MIB:.0f} MiB")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert grown < 8 * MIB
    assert server.workers() == [worker]


@pytest.mark.parametrize("target", ["/predict", "/predict?explain=false"])
@pytest.mark.parametrize(("size_bytes", "total_bytes"), [(1, len(BODY)), (3, 20_000), (8, 8 * MIB), (4096, 8 * MIB)])
def test_chunks_that_carry_what_they_cost_are_answered(
    server: Server, target: str, size_bytes: int, total_bytes: int, tell: Tell
) -> None:
    (worker,) = server.workers()
    raw = in_chunks_of(size_bytes, padded(total_bytes), target)
    forget_peak(worker)
    before = peak_bytes(worker)
    found = statuses(server, raw)
    grown = peak_bytes(worker) - before

    tell(f"A6: {total_bytes} bytes in chunks of {size_bytes}: {found}, +{grown / MIB:.0f} MiB")
    assert found == [200]
    assert grown < 4 * total_bytes + 8 * MIB
