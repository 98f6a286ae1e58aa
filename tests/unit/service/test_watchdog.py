"""The watchdog ends what is stuck, names it, and is never deceived by a process that was stopped or starved."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from service import underway, watchdog
from service.ends import End
from service.memory import VERSION_2, ControlGroup
from service.underway import UnderWay
from service.watchdog import Heartbeat, Watchdog
from tests.conftest import ROOT


class Loop:
    """An event loop that answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[Callable[[], object]] = []
        self.is_closed = False

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: object) -> None:
        if self.is_closed:
            raise RuntimeError("closed")
        self.asked.append(lambda: callback(*args))

    def answer(self) -> None:
        for one in self.asked:
            one()
        self.asked.clear()


class Dog:
    """A watchdog with a limit of 10 seconds over a loop, one thread and a clock that the test moves."""

    def __init__(self, group: ControlGroup | None = None) -> None:
        self.loop, self.under_way = Loop(), UnderWay()
        self.waited, self.ends = 0.0, 0
        self.dog = Watchdog(10, self.loop, self.under_way, self._end, self._waited, group)

    def _waited(self, native_id: int) -> float:
        return self.waited if native_id == threading.get_native_id() else 0.0

    def _end(self) -> None:
        self.ends += 1

    def pass_time(self, seconds: float, is_loop_alive: bool = True) -> None:
        for _ in range(round(seconds / 0.2)):
            if is_loop_alive:
                self.loop.answer()
            self.dog.look(0.2)


@pytest.fixture
def dog(caplog: pytest.LogCaptureFixture) -> Dog:
    caplog.set_level(logging.INFO, "service.watchdog")
    return Dog()


def test_whoever_comes_further_is_left_alone(dog, caplog):
    for number in range(20):
        dog.under_way.begin(f"id-{number}")
        dog.pass_time(9)
        dog.under_way.end()
    dog.pass_time(60)
    assert (dog.ends, caplog.records) == (0, [])


def test_a_computation_without_end_is_named_and_ended(dog, caplog):
    dog.under_way.begin("slow-one")
    dog.pass_time(10)
    assert dog.ends == 0
    dog.pass_time(0.4)
    assert dog.ends >= 1
    record = caplog.records[0]
    assert (record.message, record.levelname, record.request_id) == ("worker.stuck", "CRITICAL", "slow-one")
    assert (record.request_ids, record.limit_seconds, record.stuck_thread) == (["slow-one"], 10, "MainThread")
    assert record.stack.splitlines()[-1].startswith("watchdog.py:")
    assert "test_a_computation_without_end_is_named_and_ended" in record.stack


def test_a_loop_that_does_not_answer_is_ended(dog, caplog):
    dog.pass_time(1)
    dog.pass_time(10.6, is_loop_alive=False)
    assert dog.ends >= 1
    assert (caplog.records[0].message, caplog.records[0].request_id) == ("worker.stuck", None)


def test_a_loop_that_answers_late_is_left_alone(dog):
    for _ in range(5):
        dog.pass_time(9, is_loop_alive=False)
        dog.pass_time(0.4)
    assert dog.ends == 0


def test_a_closed_loop_is_left_alone(dog):
    dog.pass_time(1)
    dog.loop.answer()
    dog.loop.is_closed = True
    dog.pass_time(60, is_loop_alive=False)
    assert dog.ends == 0


def test_time_in_which_the_thread_was_not_let_run_does_not_count(dog):
    dog.under_way.begin("starved")
    for _ in range(30):
        dog.waited += 0.95
        dog.pass_time(1)
    assert dog.ends == 0
    dog.pass_time(9)
    assert dog.ends >= 1


def test_a_loop_that_gets_no_processor_before_its_first_turn_is_left_alone(dog, caplog):
    for _ in range(30):
        dog.waited += 0.95
        dog.pass_time(1, is_loop_alive=False)
    assert dog.ends == 0
    dog.pass_time(9, is_loop_alive=False)
    assert dog.ends >= 1
    assert caplog.records[0].stuck_thread == "MainThread"


def test_sharing_a_processor_is_no_excuse(dog):
    dog.under_way.begin("beside-others")
    for _ in range(11):
        dog.waited += 0.49
        dog.pass_time(1)
    assert dog.ends >= 1


def test_memory_that_is_nearly_full_is_told_once_and_again_after_it_was_not(caplog, tmp_path):
    caplog.set_level(logging.INFO, "service.watchdog")
    dog = Dog(ControlGroup(tmp_path, VERSION_2, tmp_path, 1000)).dog
    told = []
    for used in (899, 900, 950, 890, 810, 910, 790, 999, 1000):
        (tmp_path / "memory.current").write_text(str(used))
        dog.look_at_memory()
        told.append(len(caplog.records))
    assert told == [0, 1, 1, 1, 1, 1, 1, 2, 2]
    record = caplog.records[0]
    assert (record.message, record.levelname) == ("memory.nearly_full", "WARNING")
    assert (record.used_ratio, record.limit_bytes) == (0.9, 1000)


def test_without_a_group_nothing_is_said_about_memory(dog, caplog):
    dog.dog.look_at_memory()
    assert caplog.records == []


def test_the_stack_names_places_and_no_values():
    secret, ready, over = "4711", threading.Event(), threading.Event()

    def compute(value: str) -> str:
        ready.set()
        over.wait(60)
        return value

    thread = threading.Thread(target=compute, args=(secret,))
    thread.start()
    ready.wait(60)
    stack = watchdog.stack_of(thread.ident or 0)
    over.set()
    thread.join(60)
    assert "test_watchdog.py" in stack
    assert " compute" in stack
    assert secret not in stack
    assert watchdog.stack_of(1) == ""


def test_a_deep_stack_is_cut():
    def deeper(depth: int) -> str:
        return watchdog.stack_of(threading.get_ident()) if depth == 0 else deeper(depth - 1)

    lines = deeper(500).splitlines()
    assert len(lines) == watchdog.STACK_FRAMES
    assert lines[-1].endswith(" stack_of")


def test_the_kernel_says_how_long_a_thread_waited():
    assert watchdog.waited_seconds(threading.get_native_id()) >= 0.0
    assert watchdog.waited_seconds(0) == 0.0


# --- the sign of life


class File:
    """Gunicorn's own file, with its own times."""

    def __init__(self) -> None:
        self.at, self.is_closed = 0.0, False

    def notify(self) -> None:
        self.at += 1

    def last_update(self) -> float:
        return self.at

    def fileno(self) -> int:
        return 7

    def close(self) -> None:
        self.is_closed = True


def test_a_parent_that_was_stopped_gives_its_workers_time():
    file, now = File(), [100.0]
    heartbeat = Heartbeat(file, lambda: now[0])
    now[0] += 3_600
    assert heartbeat.last_update() == now[0]
    resumed = now[0]
    now[0] += 1
    assert heartbeat.last_update() == resumed


def test_a_worker_that_gives_no_sign_is_found_by_a_parent_that_was_not_stopped():
    file, now = File(), [100.0]
    file.at = 100.0
    heartbeat = Heartbeat(file, lambda: now[0])
    for _ in range(40):
        now[0] += 1
        assert heartbeat.last_update() == 100.0


def test_everything_else_is_gunicorns():
    file = File()
    heartbeat = Heartbeat(file)
    heartbeat.notify()
    heartbeat.close()
    assert (file.at, heartbeat.fileno(), file.is_closed) == (1.0, 7, True)


# --- the parent


def lost(capfd: pytest.CaptureFixture[str], worker: SimpleNamespace) -> list[dict[str, object]]:
    watchdog.note_exit(worker)
    return [json.loads(line) for line in capfd.readouterr().out.splitlines()]


@pytest.fixture
def worker() -> SimpleNamespace:
    found = SimpleNamespace(tmp=File(), pid=4711)
    watchdog.prepare(found)
    yield found
    underway.share()


def test_a_worker_that_ended_suddenly_is_told_with_what_it_computed(capfd, worker):
    worker.under_way.begin("lost-one")
    (line,) = lost(capfd, worker)
    assert (line["severity"], line["message"], line["pid"]) == ("ERROR", "worker.lost", 4711)
    assert (line["request_ids"], line["reason"]) == (["lost-one"], "ended suddenly")


def test_a_worker_that_ended_in_good_order_is_not_told(capfd, worker):
    watchdog.finish()
    assert lost(capfd, worker) == []


def test_a_worker_that_was_never_prepared_is_not_told(capfd):
    assert lost(capfd, SimpleNamespace(pid=1)) == []


def test_a_kill_for_want_of_memory_is_told(capfd, worker):
    if worker.oom_kills is None:
        pytest.skip("no control group counts here")
    worker.oom_kills -= 1
    (line,) = lost(capfd, worker)
    assert line["reason"] == "out of memory"


FAULT, KILL = End(True, signal.SIGSEGV), End(True, signal.SIGKILL)
AGAINST = "a" * 64


@pytest.mark.parametrize(
    ("end", "is_loading", "is_computing", "blamed", "reason"),
    [
        (FAULT, False, True, AGAINST, "ended suddenly"),
        (FAULT, True, False, AGAINST, "ended suddenly"),
        (End(False, watchdog.STUCK_STATUS), False, True, AGAINST, "ended suddenly"),
        (FAULT, False, False, None, "ended suddenly"),
        (KILL, False, True, None, "killed"),
        (KILL, True, False, None, "killed"),
        (None, False, True, None, "ended suddenly"),
    ],
    ids=["computing", "loading", "stuck", "idle", "killed computing", "killed loading", "unknown"],
)
def test_only_a_crash_of_a_computation_or_a_load_counts_against_a_bundle(
    capfd, worker, end, is_loading, is_computing, blamed, reason
):
    worker.end = end
    worker.under_way.load(f"sha256:{AGAINST}")
    if not is_loading:
        worker.under_way.end_load()
    if is_computing:
        worker.under_way.begin("one")
    assert watchdog.note_exit(worker) == blamed
    line = json.loads(capfd.readouterr().out)
    assert (line["reason"], line["counts_against"], line["end"]) == (reason, blamed, None if end is None else str(end))


def test_a_crash_for_want_of_memory_counts_against_nobody(capfd, worker):
    if worker.oom_kills is None:
        pytest.skip("no control group counts here")
    worker.oom_kills -= 1
    worker.end = FAULT
    worker.under_way.load(AGAINST)
    assert watchdog.note_exit(worker) is None
    assert json.loads(capfd.readouterr().out)["reason"] == "out of memory"


def test_crashes_are_counted_on_disk_and_a_full_disk_is_said(capfd, tmp_path):
    assert [watchdog.sets_aside(AGAINST, tmp_path / "cache") for _ in range(3)] == [False, False, True]
    (tmp_path / "file").touch()
    assert not watchdog.sets_aside(AGAINST, tmp_path / "file")
    assert json.loads(capfd.readouterr().out)["message"] == "model.crash_not_counted"


def test_only_the_workers_of_a_bundle_in_quarantine_are_dismissed():
    workers = [SimpleNamespace(under_way=UnderWay()) for _ in range(2)]
    for one, digest in zip(workers, (AGAINST, "b" * 64), strict=True):
        one.under_way.load(digest)
    watchdog.dismiss(workers, AGAINST)
    assert [one.under_way.is_dismissed for one in workers] == [True, False]


# --- for real, in a process of its own

STUCK = """
import asyncio, sys, threading, logging
from types import SimpleNamespace
from service import logs, underway, watchdog
logs.set_up("info")
async def main():
    watchdog.start(SimpleNamespace(loop=asyncio.get_running_loop()), 1)
    def compute():
        underway.begin("stuck-one")
        WAIT
    threading.Thread(target=compute, name="large", daemon=True).start()
    await asyncio.sleep(60)
asyncio.run(main())
"""


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("wait", ["threading.Event().wait()", "while True: pass"], ids=["waits", "computes"])
def test_a_stuck_thread_ends_the_process_and_is_named(wait):
    done = _run(STUCK.replace("WAIT", wait))
    (line,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, line["message"], line["request_id"]) == (70, "worker.stuck", "stuck-one")
    assert (line["stuck_thread"], "compute" in line["stack"]) == ("large", True)


def test_native_code_that_never_lets_go_of_the_interpreter_is_ended_by_the_kernel():
    done = _run(STUCK.replace("WAIT", "sum(range(10**15))"))
    assert done.returncode == -signal.SIGPROF
    assert "in compute" in done.stderr


PATIENT = """print('begun', flush=True)
        sys.stdin.read(1)
        underway.end()
        print('went on', flush=True)
        import os; os._exit(0)"""


def test_a_stopped_process_is_not_taken_for_a_stuck_one():
    with subprocess.Popen(
        [sys.executable, "-c", STUCK.replace("WAIT", PATIENT)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)
        process.send_signal(signal.SIGCONT)
        process.stdin.write("x")
        process.stdin.flush()
        assert process.stdout.read() == "went on\n"
    assert process.returncode == 0
