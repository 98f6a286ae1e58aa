"""Which sudden ends set a bundle aside and for how long, and what an instance with nothing left says to its probes."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from load import groups

from . import faulty
from .conftest import Start
from .faulty import ARGUMENTS
from .mixed import ADELIE, post
from .servers import DEADLINE_SECONDS, POLL_SECONDS, Server
from .test_watchdog import events, older, resident_bytes, row, send, wait_for_another, wait_for_event

TIMES = 5


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """The cache folder of one test."""
    return tmp_path / "cache"


@pytest.fixture
def serve(start: Start, bundles: dict[str, Path], cache: Path) -> Callable[..., Server]:
    """More settings → a ready server whose engine fails on demand; a computation may take longer than any test."""

    def serve(**more: str) -> Server:
        settings = {
            "MODEL_URI": str(bundles["penguins"]), "MODEL_CACHE_DIR": str(cache), "ROOKERY_PREDICT_SECONDS": "100",
            "FAULTY_DIGEST": f"sha256:{bundles['penguins'].name}", **more,
        }  # fmt: skip
        server = start(settings, arguments=ARGUMENTS)
        server.wait_until("/health/ready", 200)
        return server

    return serve


def attempts(server: Server) -> list[tuple[str, str | None]]:
    return [(one["origin"], one.get("code")) for one in server.get("/model").json()["attempts"]]


@contextlib.contextmanager
def computing(server: Server, name: str) -> Iterator[None]:
    """Have a computation without an end under way in the only worker, known to its parent."""
    with server.open_socket() as sock, server.open_socket() as answered:
        sock.sendall(post({"instances": [row(faulty.HANG)] * 600}, request_id=name))
        # the batch hangs beside the loop, which began it before it answers this
        answered.sendall(post(ADELIE))
        assert answered.recv(1)
        yield


def probes(server: Server, path: str, count: int = 30) -> set[tuple[int, str | None]]:
    """Return every status, with its reason, that a route answers over connections of their own."""
    found = [server.get(path) for _ in range(count)]
    return {(one.status, one.json().get("reason")) for one in found}


def until(server: Server, path: str, wanted: tuple[int, str | None], count: int = 30) -> None:
    """Wait until a route answers the same over many connections, whichever worker they reach."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (seen := probes(server, path, count)) != {wanted}:
        assert time.monotonic() < deadline, (path, seen, server.stdout_lines[-20:], server.stderr_lines[-20:])
        assert not server.has_ended(POLL_SECONDS), server.stderr_lines[-20:]


# --- what does not count


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP, signal.SIGUSR2], ids=lambda one: one.name)
def test_worker_that_is_killed_from_outside_during_a_computation_counts_against_nobody(
    serve: Callable[..., Server], cache: Path, number: signal.Signals
) -> None:
    server = serve()
    for time_ in range(TIMES):
        workers = server.workers()
        with computing(server, f"killed-{time_}"):
            os.kill(workers[0], number)
            wait_for_another(server, workers)

    assert attempts(server) == [("pinned", None)]
    assert (cache / "crashed").exists() is False
    assert {line["reason"] for line in events(server, "worker.lost")} <= {"killed"}
    # the control: the same computation, ended by a crash
    workers = server.workers()
    send(server, post(row(faulty.SEGFAULT)))
    wait_for_another(server, workers)
    assert len(list((cache / "crashed").iterdir())) == 1


def test_worker_that_is_told_to_stop_counts_against_nobody(serve: Callable[..., Server], cache: Path) -> None:
    server = serve()
    for _ in range(TIMES):
        workers = server.workers()
        os.kill(workers[0], signal.SIGTERM)
        wait_for_another(server, workers)

    assert attempts(server) == [("pinned", None)]
    assert (events(server, "worker.lost"), (cache / "crashed").exists()) == ([], False)


def test_crash_of_an_idle_worker_counts_against_nobody(serve: Callable[..., Server], cache: Path) -> None:
    server = serve()
    for _ in range(TIMES):
        workers = server.workers()
        os.kill(workers[0], signal.SIGSEGV)
        wait_for_another(server, workers)

    lost = wait_for_event(server, "worker.lost", TIMES)
    assert attempts(server) == [("pinned", None)]
    assert {(line["reason"], line["end"], line["counts_against"]) for line in lost} == {
        ("ended suddenly", "SIGSEGV", None)
    }
    assert not (cache / "crashed").exists()


def test_worker_that_runs_out_of_memory_counts_against_nobody(serve: Callable[..., Server], cache: Path) -> None:
    server = serve()
    (worker,) = server.workers()
    with groups.memory(4 * resident_bytes(worker)) as group:
        if group is None:
            pytest.skip("no control group can be made here")
        for pid in (server.pid, worker):
            groups.enter(group, pid)
        for _ in range(TIMES):
            workers = server.workers()
            while server.workers() == workers:
                with server.open_socket() as sock, contextlib.suppress(ConnectionError):
                    sock.sendall(post(row(faulty.GROW)))
                    sock.recv(1)
                assert not server.has_ended(0), server.stderr_lines
            wait_for_another(server, workers)
        lost = wait_for_event(server, "worker.lost", TIMES)

        assert attempts(server) == [("pinned", None)]
        assert {(line["reason"], line["counts_against"]) for line in lost} == {("out of memory", None)}
        assert not (cache / "crashed").exists()
        server.stop()


def test_instance_that_is_killed_whole_during_a_computation_counts_against_nobody(
    serve: Callable[..., Server],
) -> None:
    for _ in range(3):
        server = serve()
        workers = server.workers()
        with computing(server, "killed-whole"):
            for pid in (server.pid, *workers):
                os.kill(pid, signal.SIGKILL)
        server.process.wait(DEADLINE_SECONDS)

    assert attempts(serve()) == [("pinned", None)]


# --- what counts, and until when


def test_bundle_that_crashes_is_tried_again_after_minutes_if_nothing_stands_in(
    serve: Callable[..., Server], bundles: dict[str, Path]
) -> None:
    server = serve(ROOKERY_QUARANTINE_SECONDS="3")
    for _ in range(3):
        assert server.wait_until("/health/ready", 200).status == 200
        workers = server.workers()
        send(server, post(row(faulty.SEGFAULT)))
        server.wait_for_workers(lambda found, workers=workers: len(found) == 1 and found != workers)
    assert (server.wait_until("/health/live", 503).json()["reason"]) == "quarantined"
    assert (server.get("/v2/health/live").status, server.predict(ADELIE).json()["reason"]) == (503, "quarantined")
    server.wait_until("/health/ready", 200)

    assert server.get("/health/live").status == 200
    assert server.predict(ADELIE).status == 200
    lost = wait_for_event(server, "worker.lost", 3)
    assert [(line["end"], line["counts_against"]) for line in lost] == [("SIGSEGV", bundles["penguins"].name)] * 3
    assert len(events(server, "model.quarantine_ended")) == 1
    # nothing of the past counts any more
    workers = server.workers()
    send(server, post(row(faulty.SEGFAULT)))
    wait_for_another(server, workers)
    assert attempts(server) == [("pinned", None)]


def test_stand_in_stays_when_the_time_of_a_quarantine_is_over(
    serve: Callable[..., Server], bundles: dict[str, Path], tmp_path: Path
) -> None:
    former = older(bundles["penguins"], tmp_path)
    server = serve(ROOKERY_QUARANTINE_SECONDS="1", ROOKERY_WORKERS="2")
    for _ in range(3):
        workers = server.workers()
        send(server, post(row(faulty.SEGFAULT)))
        server.wait_for_workers(lambda found, workers=workers: len(found) == 2 and found != workers)
        until(server, "/health/ready", (200, None), 1)
    # the worker that did not crash is replaced as well
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (seen := {server.predict(ADELIE).headers["x-model-digest"] for _ in range(20)}) != {former}:
        assert time.monotonic() < deadline, (seen, server.stdout_lines[-20:])

    workers = server.workers()
    os.kill(workers[0], signal.SIGKILL)
    server.wait_for_workers(lambda found: len(found) == 2 and found != workers)
    until(server, "/health/ready", (200, None))
    assert {server.predict(ADELIE).headers["x-model-digest"] for _ in range(20)} == {former}
    assert events(server, "model.quarantine_ended") == []


# --- what is said


def test_two_workers_say_the_same_when_one_of_them_has_no_model(
    start: Start, bundles: dict[str, Path], tmp_path: Path
) -> None:
    bundle, aside = tmp_path / "bundle", tmp_path / "aside"
    bundle.symlink_to(bundles["penguins"])
    server = start({"MODEL_URI": str(bundle), "ROOKERY_WORKERS": "2", "ROOKERY_RETRY_SECONDS": "1"})
    server.wait_for_workers(lambda _: len(events(server, "service.started")) == 2)
    until(server, "/health/ready", (200, None))
    bundle.rename(aside)
    workers = server.workers()
    os.kill(workers[0], signal.SIGKILL)
    server.wait_for_workers(lambda found: len(found) == 2 and found != workers)
    until(server, "/health/ready", (503, "bundle_missing"))

    assert {status for path in ("/v2/health/ready", "/ping") for status, _ in probes(server, path)} == {503}
    # both have been asked: the one with a model names it
    deadline, named = time.monotonic() + DEADLINE_SECONDS, set()
    while named != {True, False}:
        answer = server.get("/health/ready")
        assert (answer.status, answer.json()["reason"]) == (503, "bundle_missing")
        named.add("x-model-digest" in answer.headers)
        assert time.monotonic() < deadline, named
    # half of it serves, and it mends itself once the bundle is there
    assert probes(server, "/health/live") == {(200, None)}
    assert {server.predict(ADELIE).status for _ in range(40)} <= {200, 503}
    os.kill(workers[1], signal.SIGKILL)
    until(server, "/health/live", (503, "bundle_missing"))
    aside.rename(bundle)
    until(server, "/health/ready", (200, None))
    assert probes(server, "/health/live") == {(200, None)}


def test_two_workers_without_a_stand_in_say_the_same(serve: Callable[..., Server]) -> None:
    server = serve(ROOKERY_WORKERS="2")
    for _ in range(3):
        workers = server.workers()
        send(server, post(row(faulty.SEGFAULT)))
        server.wait_for_workers(lambda found, workers=workers: len(found) == 2 and found != workers)
    until(server, "/health/live", (503, "quarantined"))

    assert probes(server, "/health/ready") == {(503, "quarantined")}
    assert {server.predict(ADELIE).status for _ in range(20)} == {503}


def test_bundle_that_comes_late_is_loaded_by_the_same_instance(
    start: Start, bundles: dict[str, Path], tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    server = start({"MODEL_URI": str(bundle), "ROOKERY_RETRY_SECONDS": "1"})
    server.wait_until("/health/live", 200)
    assert server.get("/health/ready").json()["reason"] == "bundle_missing"
    bundle.symlink_to(bundles["penguins"])
    with closing(server.connect()):
        server.wait_until("/health/ready", 200)

    assert server.predict(ADELIE).status == 200
    assert events(server, "worker.lost") == []
