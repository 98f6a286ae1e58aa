"""A worker that hangs, crashes, is killed, stopped or runs out of memory: it is replaced and named."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from load import groups
from model import bundle, verify
from model import manifest as manifests
from model.cache import Cache
from tests.conftest import Tell

from . import faulty, servers
from .conftest import Start
from .faulty import ARGUMENTS
from .mixed import ADELIE, Client, post
from .servers import DEADLINE_SECONDS, POLL_SECONDS, ROOT, Server

PATIENCE = {"ROOKERY_PREDICT_SECONDS": "1"}


def row(body_mass_g: float) -> dict[str, float]:
    return {**ADELIE, "body_mass_g": body_mass_g}


def events(server: Server, name: str) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, server.stdout_lines) if line["message"] == name]


def wait_for_event(server: Server, name: str, count: int = 1) -> list[dict[str, Any]]:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while len(found := events(server, name)) < count:
        assert time.monotonic() < deadline, (name, server.stdout_lines[-20:], server.stderr_lines[-20:])
        assert not server.has_ended(POLL_SECONDS), server.stderr_lines[-20:]
    return found


def wait_for_another(server: Server, former: list[int]) -> None:
    """Wait until none of the former workers is there and as many others answer."""
    server.wait_for_workers(lambda found: len(found) == len(former) and not set(found) & set(former))
    server.wait_until("/health/ready", 200)


def send(server: Server, data: bytes) -> None:
    """Send a request and wait until its connection ends without an answer."""
    with server.open_socket() as sock:
        sock.sendall(data)
        with contextlib.suppress(ConnectionError):
            assert sock.recv(1) == b""


@pytest.fixture
def ready(start: Start, bundles: dict[str, Path]) -> Server:
    """A server of one's own whose engine fails on demand, and that waits only a second for it."""
    server = start({"MODEL_URI": str(bundles["penguins"]), **PATIENCE}, arguments=ARGUMENTS)
    server.wait_until("/health/ready", 200)
    return server


@pytest.fixture
def patient(start: Start, bundles: dict[str, Path]) -> Server:
    """The same, waiting as long as by default: the first explanation imports for a second."""
    server = start({"MODEL_URI": str(bundles["penguins"])}, arguments=ARGUMENTS)
    server.wait_until("/health/ready", 200)
    return server


# --- L5: hanging and crashing


@pytest.mark.parametrize(
    ("mass", "rows", "thread"),
    [
        (faulty.HANG, 1, "MainThread"),
        (faulty.SPIN, 1, "MainThread"),
        (faulty.HANG, 600, "large_0"),
        (faulty.SPIN, 600, "large_0"),
    ],
    ids=["waits in the loop", "computes in the loop", "waits beside it", "computes beside it"],
)
def test_request_that_never_ends_is_named_and_its_worker_replaced(
    ready: Server, mass: float, rows: int, thread: str, tell: Tell
) -> None:
    workers = ready.workers()
    value = row(mass) if rows == 1 else {"instances": [row(mass)] * rows}
    begin = time.monotonic()
    send(ready, post(value, request_id="the-stuck-one"))
    ended = time.monotonic() - begin
    wait_for_another(ready, workers)
    tell(f"L5: limit 1 s, ended after {ended:.2f} s, another one ready after {time.monotonic() - begin:.2f} s")

    assert ready.predict(ADELIE).status == 200
    (stuck,) = wait_for_event(ready, "worker.stuck")
    assert (stuck["request_id"], stuck["severity"], stuck["stuck_thread"]) == ("the-stuck-one", "CRITICAL", thread)
    assert "faulty.py" in stuck["stack"]
    assert len(json.dumps(stuck)) <= 16 << 10
    (lost,) = wait_for_event(ready, "worker.lost")
    assert (lost["request_ids"], lost["pid"]) == (["the-stuck-one"], workers[0])


def test_others_are_answered_while_a_batch_hangs_beside_the_loop(ready: Server) -> None:
    with ready.open_socket() as sock:
        sock.sendall(post({"instances": [row(faulty.HANG)] * 600}))
        found = [ready.predict(ADELIE).status for _ in range(20)]
        with contextlib.suppress(ConnectionError):
            sock.recv(1)

    assert found == [200] * 20


def test_native_code_that_keeps_the_interpreter_is_ended_too(ready: Server) -> None:
    workers = ready.workers()
    send(ready, post(row(faulty.HOLD), request_id="the-one-that-holds"))
    wait_for_another(ready, workers)

    assert [line["request_ids"] for line in wait_for_event(ready, "worker.lost")] == [["the-one-that-holds"]]
    assert any("faulty.py" in line and " in _fail" in line for line in ready.stderr_lines)


def test_crash_is_named_and_its_worker_replaced(ready: Server) -> None:
    workers = ready.workers()
    send(ready, post(row(faulty.SEGFAULT), request_id="the-crashing-one"))
    wait_for_another(ready, workers)

    assert ready.predict(ADELIE).status == 200
    (lost,) = wait_for_event(ready, "worker.lost")
    assert (lost["request_ids"], lost["severity"]) == (["the-crashing-one"], "ERROR")
    assert "Fatal Python error: Segmentation fault" in ready.stderr_lines


@pytest.mark.parametrize("mass", [faulty.SEGFAULT, faulty.HANG], ids=["crash", "hang"])
def test_three_sudden_ends_put_the_last_known_good_bundle_in_its_place(
    start: Start, bundles: dict[str, Path], tmp_path: Path, mass: float
) -> None:
    former = older(bundles["penguins"], tmp_path)
    pinned = f"sha256:{bundles['penguins'].name}"
    settings = {
        "MODEL_URI": str(bundles["penguins"]), "MODEL_CACHE_DIR": str(tmp_path / "cache"),
        "FAULTY_DIGEST": pinned, **PATIENCE,
    }  # fmt: skip
    server = start(settings, arguments=ARGUMENTS)
    for _ in range(3):
        assert server.wait_until("/health/ready", 200).json()["digest"] == pinned
        workers = server.workers()
        send(server, post(row(mass)))
        wait_for_another(server, workers)
    answer = server.predict(row(mass))

    assert (answer.status, answer.headers["x-model-fallback"]) == (200, "last_known_good")
    assert answer.headers["x-model-digest"] == former
    attempts = server.get("/model").json()["attempts"]
    assert [(one["origin"], one.get("code")) for one in attempts] == [
        ("pinned", "quarantined"),
        ("last_known_good", None),
    ]


def older(folder: Path, root: Path) -> str:
    """Make another bundle of the same contract the last known good one, and return its digest."""
    read = verify.read(folder)
    raw = manifests.encode(msgspec.structs.replace(read.manifest, version="0"))
    bundle.write_folder(root, root / "older", {**read.files, bundle.MANIFEST: raw})
    found = verify.read(root / "older")
    cache = Cache(root / "cache")
    cache.keep(found)
    cache.remember(found.digest)
    return found.digest


# --- L4: killed


def test_killed_worker_under_load_loses_only_what_was_in_flight(patient: Server, tell: Tell) -> None:
    client = Client(patient.port)
    workers = patient.workers()
    killed: list[float] = []

    def kill(sent: int) -> None:
        if sent >= 400 and not killed:
            os.kill(workers[0], signal.SIGKILL)
            killed.append(time.monotonic())

    outcome = client.run(1_200, kill)
    client.close()
    tell(f"L4: {outcome.lost} of 8 in flight lost")

    assert outcome.wrong == {}
    assert outcome.lost <= 8
    assert sum(outcome.statuses.values()) + outcome.lost == 1_200
    assert patient.workers() != workers


# --- L8: stopped


def test_stopped_server_goes_on_with_the_same_worker(ready: Server) -> None:
    workers = ready.workers()
    stopped = [ready.pid, *workers]
    with ready.open_socket() as sock:
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        sock.sendall(post(ADELIE))
        # twice as long as a computation may take
        assert not ready.has_ended(2)
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        answer = servers.receive(sock)

    assert answer.status == 200
    assert ready.predict({"instances": [ADELIE] * 600}).status == 200
    assert (ready.workers(), events(ready, "worker.stuck")) == (workers, [])


# --- L9: out of memory


def test_worker_that_runs_out_of_memory_is_named_and_replaced(patient: Server, tell: Tell) -> None:
    (worker,) = patient.workers()
    resident = resident_bytes(worker)
    with groups.memory(4 * resident) as group:
        if group is None:
            pytest.skip("no control group can be made here")
        for pid in (patient.pid, worker):
            groups.enter(group, pid)
        client = Client(patient.port, connections=4)
        begun = 0.0
        while patient.workers() == [worker]:
            begun = time.monotonic()
            client.round([(post(row(faulty.GROW)), 200)] * 4)
            assert not patient.has_ended(0), patient.stderr_lines
        wait_for_another(patient, [worker])
        took = time.monotonic() - begun
        client.close()
        (lost,) = wait_for_event(patient, "worker.lost")
        tell(f"L9: {client.outcome.lost} of 4 in flight lost, another one ready after {took:.2f} s")

        assert (lost["reason"], lost["pid"], lost["limit_bytes"] > 0) == ("out of memory", worker, True)
        assert client.outcome.lost <= 4
        assert patient.predict(ADELIE).status == 200
        patient.stop()


def resident_bytes(pid: int) -> int:
    """Return the memory a process has."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS:"))


# --- C6: connections of its own


def foreign_connections(pid: int, port: int) -> set[str]:
    """Return the sockets of a process that are neither its listener, a client's connection nor a pair of its own."""
    inodes = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if (target := str(file.readlink())).startswith("socket:["):
                inodes.add(target[8:-1])
    found = set()
    for kind in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{kind}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes and int(fields[1].rpartition(":")[2], 16) != port:
                found.add(f"{kind} {fields[1]} {fields[2]}")
    for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        # a pair has no name
        if fields[6] in inodes and len(fields) > 7:
            found.add(f"unix {fields[7]}")
    return found


def test_no_connection_is_opened_once_it_is_ready(fast_server: Server) -> None:
    (worker,) = fast_server.workers()
    client, seen = Client(fast_server.port), set()
    looks = 0
    for _ in client.rounds(800):
        seen |= foreign_connections(worker, fast_server.port)
        looks += 1
    client.close()

    assert (seen, looks) == (set(), 100)
    assert client.outcome.wrong == {}


def test_the_look_at_connections_finds_one(fast_server: Server) -> None:
    with fast_server.open_socket() as sock, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        found = foreign_connections(os.getpid(), fast_server.port)

        for one, kind in ((sock, "tcp"), (datagrams, "udp")):
            port = one.getsockname()[1]
            assert any(line.startswith(kind) and line.split()[1].endswith(f":{port:04X}") for line in found)


# --- C7, D3: the log

HOSTILE = [
    "x" * 8_000,
    '"}\\n{"severity":"EMERGENCY","message":"all lost"}',
    "%s%n%d{0}{name}$(reboot)`id`",
    "\\u2028\\u0085\\x1b[2J",
    "..%0d%0a{%22a%22:1}",
    "%F0%9F%90%A7%ED%A0%80%00",
]


def test_whatever_clients_send_each_line_of_the_log_is_one_short_object(start: Start, bundles: dict[str, Path]) -> None:
    settings = {"MODEL_URI": str(bundles["penguins"]), "ROOKERY_LOG_LEVEL": "debug", "FAST_PATH": "true"}
    server = start(settings, arguments=ARGUMENTS)
    server.wait_until("/health/ready", 200)
    for text in HOSTILE:
        raw = text.encode("latin-1", "replace")
        for request in (
            b"GET /" + raw + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nX-Request-Id: " + raw + b"\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nA" + raw + b": 1\r\n\r\n",
            raw + b" / HTTP/1.1\r\nHost: x\r\n\r\n",
            post(row(faulty.NO_EXPLANATION), f"?explain=true&x={text}", "id"),
            post({"bill_length_mm" + text: text}),
        ):
            with server.open_socket() as sock:
                sock.sendall(request)
                sock.shutdown(1)
                with contextlib.suppress(ConnectionError):
                    while sock.recv(1 << 16):
                        pass
    assert server.predict(row(faulty.NO_EXPLANATION), "?explain=true").status == 200
    assert server.stop() == 0

    raw_lines = (server.folder / "stdout").read_bytes().split(b"\n")
    assert raw_lines.pop() == b""
    lines = [json.loads(line) for line in raw_lines]
    assert len(lines) > 3
    assert max(map(len, raw_lines)) <= 16 << 10
    assert all({"severity", "message", "time", "logging.googleapis.com/labels"} <= set(line) for line in lines)
    assert {line["severity"] for line in lines} <= {"DEBUG", "INFO", "WARNING", "ERROR"}


@contextlib.contextmanager
def piped(settings: dict[str, str], folder: Path) -> Iterator[tuple[Server, int]]:
    """A server whose standard output is a small pipe that nobody reads."""
    folder.mkdir()
    own = {"MODEL_CACHE_DIR": str(folder / "cache"), "ROOKERY_BAKED_BUNDLE": str(folder / "none")}
    reservation = servers.reserve_port()
    port = reservation.getsockname()[1]
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with (folder / "stderr").open("wb") as err:
        process = subprocess.Popen(
            servers.command(*ARGUMENTS),
            cwd=ROOT,
            env=servers.environment({**own, **settings, "PORT": str(port)}),
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=err,
        )
    os.close(writing)
    server = Server(process, port, folder, reservation)
    try:
        yield server, reading
    finally:
        server.stop()
        with contextlib.suppress(OSError):
            os.close(reading)


def test_log_that_nobody_reads_stops_no_request(bundles: dict[str, Path], tmp_path: Path) -> None:
    with piped({"MODEL_URI": str(bundles["penguins"])}, tmp_path / "piped") as (server, _):
        server.wait_until("/health/ready", 200)
        client = Client(server.port)
        # more than waits: 4 MiB
        for _ in range(300):
            client.round([(post(row(faulty.NO_EXPLANATION), "?explain=true"), 200)] * 8)
        client.close()

        assert (client.outcome.statuses, client.outcome.lost) == ({200: 2_400}, 0)
        assert server.stop() == 0


def test_log_that_is_closed_stops_no_request(bundles: dict[str, Path], tmp_path: Path) -> None:
    with piped({"MODEL_URI": str(bundles["penguins"])}, tmp_path / "piped") as (server, reading):
        os.close(reading)
        server.wait_until("/health/ready", 200)
        found = [server.predict(row(faulty.NO_EXPLANATION), "?explain=true").status for _ in range(10)]

        assert found == [200] * 10
        assert server.stop() == 0


def test_prediction_without_its_explanation_is_still_a_prediction(patient: Server) -> None:
    answer = patient.predict(row(faulty.NO_EXPLANATION), "?explain=true")
    explained = patient.predict(ADELIE, "?explain=true")

    assert (answer.status, answer.json()["contributions"]) == (200, None)
    assert explained.json()["contributions"] is not None
    (failed,) = wait_for_event(patient, "explanation.failed")
    assert "no explanation today" in failed["exception"]
