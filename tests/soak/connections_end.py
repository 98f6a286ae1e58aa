"""L1 to L3: what becomes of requests when the process is told to stop."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration import hostile, servers
from tests.integration.servers import DEADLINE_SECONDS, Server, receive
from tests.soak.connections_clients import BODY, PLAIN, wait
from tests.soak.integrity_stock import Result

CLIENTS = 32
BATCH = json.dumps({"instances": [hostile.ADELIE] * 1000}).encode()
LONG_BATCH = json.dumps({"instances": [hostile.ADELIE] * 10_000}).encode()


def _post(body: bytes, query: bytes = b"") -> bytes:
    return b"POST /predict%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (query, len(body), body)


@dataclass
class Ended:
    """A server, and how it ended: status of its first process and seconds since it was told."""

    server: Server
    pid: int
    told_at: float = 0.0
    status: int | None = None
    seconds: float = 0.0

    def tell(self) -> None:
        """Tell it to stop."""
        self.told_at = time.monotonic()
        subprocess.run(["kill", "-TERM", str(self.pid)], check=True)

    def wait(self) -> None:
        """Wait for its end."""
        self.status = self.server.process.wait(DEADLINE_SECONDS)
        self.seconds = time.monotonic() - self.told_at


@contextlib.contextmanager
def ending(bundle: Path, root: Path, is_first_process: bool = False, **settings: str) -> Iterator[Ended]:
    """A ready server that the caller stops; if asked, as process 1 of its own."""
    folder = root / f"server-{time.monotonic_ns()}"
    folder.mkdir()
    own = {"MODEL_URI": str(bundle), "MODEL_CACHE_DIR": str(folder / "cache"), **settings}
    reservation = servers.reserve_port()
    port = reservation.getsockname()[1]
    words = ["unshare", "--pid", "--fork", "--kill-child"] if is_first_process else []
    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
        process = subprocess.Popen(
            [*words, *servers.command()],
            cwd=servers.ROOT,
            env=servers.environment({**own, "PORT": str(port)}),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
    server = Server(process, port, folder, reservation)
    try:
        server.wait_until("/health/ready", 200)
        (first,) = server.workers() if is_first_process else [server.pid]
        yield Ended(server, first)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        reservation.close()


def l1(bundle: Path, root: Path, repetitions: int = 20) -> Result:
    """Tell it to stop while requests are under way, the last quarter of the times as process 1."""
    asked = f"SIGTERM, {2 * CLIENTS * repetitions} mid-flight: 0 fail; exit <= 10 s, status 0, also as process 1"
    statuses: Counter[str] = Counter()
    exits, longest, firsts = set[int | None](), 0.0, 0
    for number in range(repetitions):
        is_first = number >= repetitions * 3 // 4
        with ending(bundle, root, is_first) as ended:
            statuses.update(_stop_mid_flight(ended))
        firsts += is_first
        exits.add(ended.status)
        longest = max(longest, ended.seconds)
    total, failed = sum(statuses.values()), sum(statuses.values()) - statuses["200"]
    found = (
        f"{failed} of {total} failed, exit {sorted(map(str, exits))} in <= {longest:.1f} s, {firsts} times process 1"
    )
    kept = failed == 0 and exits == {0} and longest <= 10 and total >= 2 * CLIENTS * repetitions
    return Result("L1", asked, found, kept, [f"{what}: {n}" for what, n in statuses.items() if what != "200"])


def _stop_mid_flight(ended: Ended) -> list[str]:
    """Begin 64 requests of three kinds, stop the server, finish them, and return what each got."""
    server, begun = ended.server, []
    for number in range(2 * CLIENTS):
        sock = server.open_socket()
        # whole at once; its last byte later; a batch for the worker thread
        request = _post(BATCH) if number % 3 == 2 else PLAIN
        cut = len(request) - 1 if number % 3 == 1 else len(request)
        sock.sendall(request[:cut])
        begun.append((sock, request[cut:]))
    ended.tell()
    with ThreadPoolExecutor(len(begun)) as pool:
        found = list(pool.map(_finish, begun, range(len(begun))))
    ended.wait()
    return found


def _finish(begun: tuple[socket.socket, bytes], number: int) -> str:
    """Send the rest of a request a little later, and return the status or what went wrong."""
    sock, rest = begun
    with sock:
        try:
            wait(number * 0.02)
            if rest:
                sock.sendall(rest)
            return str(receive(sock).status)
        except (OSError, http.client.HTTPException) as error:
            return repr(error)


@dataclass
class Seen:
    """What clients saw who went on sending."""

    answered: int = 0
    refused: int = 0
    reset: int = 0
    wrong: list[str] = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)


def l2(bundle: Path, root: Path, repetitions: int = 5) -> Result:
    """Tell it to stop under load, without and behind a proxy that asks whether it is ready."""
    asked = "SIGTERM under load: only refused, or reset before the first byte; 0 behind a proxy"
    direct, behind, exits = Seen(), Seen(), set[int | None]()
    for seen, has_proxy in [(direct, False), (behind, True)] * repetitions:
        with ending(bundle, root) as ended:
            _load(ended, seen, has_proxy)
        exits.add(ended.status)
    lost = behind.refused + behind.reset + len(behind.wrong)
    found = (
        f"direct: {direct.answered} answered, {direct.refused} refused, {direct.reset} reset, "
        f"{len(direct.wrong)} wrong; proxy: {lost} of {behind.answered + lost} lost"
    )
    kept = not direct.wrong and lost == 0 and exits == {0} and min(direct.answered, behind.answered) > 1000
    return Result("L2", asked, found, kept, [*direct.wrong[:5], *behind.wrong[:5]])


def _load(ended: Ended, seen: Seen, has_proxy: bool) -> None:
    """Send from many clients until the server refuses, or is said not to be ready."""
    is_ready, is_over = threading.Event(), threading.Event()
    is_ready.set()
    clients = [
        threading.Thread(target=_client, args=(ended.server, seen, is_ready, is_over), daemon=True)
        for _ in range(CLIENTS // 2)
    ]
    for client in clients:
        client.start()
    probe = threading.Thread(target=_probe, args=(ended.server, is_ready, is_over), daemon=True)
    if has_proxy:
        probe.start()
    wait(1)
    ended.tell()
    ended.wait()
    is_over.set()
    for client in clients:
        client.join(DEADLINE_SECONDS)


def _probe(server: Server, is_ready: threading.Event, is_over: threading.Event) -> None:
    """Ask every tenth of a second, as a proxy would."""
    while not is_over.wait(0.1):
        try:
            if server.get("/health/ready").status != 200:
                is_ready.clear()
        except (OSError, http.client.HTTPException):
            is_ready.clear()


def _client(server: Server, seen: Seen, is_ready: threading.Event, is_over: threading.Event) -> None:
    """Send one request after the other; a new connection when the server says close, none after a refusal."""
    sock: socket.socket | None = None
    while is_ready.is_set() and not is_over.is_set():
        try:
            if sock is None:
                sock = server.open_socket()
        except OSError:
            with seen.lock:
                seen.refused += 1
            return
        outcome, sock = _ask(sock)
        with seen.lock:
            if outcome == "200":
                seen.answered += 1
            elif outcome == "reset":
                seen.reset += 1
            else:
                seen.wrong.append(outcome)
    if sock is not None:
        sock.close()


def _ask(sock: socket.socket) -> tuple[str, socket.socket | None]:
    """Send a request; return what came of it, and the connection if it goes on."""
    received = b""
    try:
        sock.sendall(PLAIN)
        while b"\r\n\r\n" not in received or len(received) < _length(received):
            chunk = sock.recv(65_536)
            if not chunk:
                raise ConnectionResetError
            received += chunk
    except OSError as error:
        sock.close()
        return ("reset" if not received else f"{error!r} after {len(received)} bytes"), None
    status = received.split(b" ", 2)[1].decode()
    if b"\r\nconnection: close" in received.lower():
        sock.close()
        return status, None
    return status, sock


def _length(received: bytes) -> int:
    """Return how long the answer is whose head is there."""
    head, _, _ = received.partition(b"\r\n\r\n")
    return len(head) + 4 + int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])


def l3(bundle: Path, root: Path) -> Result:
    """Tell it to stop while one body never ends and the worker thread has more than it can do."""
    asked = "SIGTERM with stuck requests: gone <= 9.5 s, others finished, the log names them"
    with ending(bundle, root) as ended, contextlib.ExitStack() as stack:
        server = ended.server
        stuck = stack.enter_context(server.open_socket())
        stuck.sendall(_post(BODY)[:-1].replace(b"Host: x", b"Host: x\r\nX-Request-Id: stuck-body"))
        batches = [stack.enter_context(server.open_socket()) for _ in range(12)]
        for number, sock in enumerate(batches):
            name = b"Host: x\r\nX-Request-Id: batch-%d" % number
            sock.sendall(_post(LONG_BATCH, b"?explain=true").replace(b"Host: x", name))
        others = [(stack.enter_context(server.open_socket()), b"") for _ in range(8)]
        for sock, _ in others:
            sock.sendall(PLAIN)
        ended.tell()
        with ThreadPoolExecutor(len(others)) as pool:
            statuses = list(pool.map(_finish, others, [0] * len(others)))
        ended.wait()
        lines = [line for line in map(json.loads, server.stdout_lines) if line["message"] == "request.abandoned"]
    named = {line["request_id"]: line for line in lines}
    has_named = "stuck-body" in named and any(str(name).startswith("batch-") for name in named)
    found = (
        f"gone after {ended.seconds:.1f} s with status {ended.status}, {statuses.count('200')} of {len(others)} "
        f"others finished, {len(named)} named"
    )
    kept = ended.seconds <= 9.5 and ended.status == 0 and statuses == ["200"] * len(others) and has_named
    return Result("L3", asked, found, kept, [json.dumps(line) for line in lines[:2]])
