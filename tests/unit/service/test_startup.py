"""The model loads beside the imports, and one line tells how long everything took."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from model.predictor import Predictor
from service import startup, stopping, underway
from service.loader import NotReady, Ready
from service.startup import PHASES, Startup

LOADED = {"fetch": 0.5, "verify": 0.25, "load": 1.0, "golden": 0.125}
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def state(penguins_predictor: Predictor) -> Ready:
    """A model that took 1.875 s to load."""
    return Ready(penguins_predictor, phases=dict(LOADED))


class Clock:
    """A wall clock that is set by hand."""

    def __init__(self, seconds: float) -> None:
        """Begin at a moment."""
        self.seconds = seconds

    def __call__(self) -> float:
        """Return the moment."""
        return self.seconds


def test_what_was_begun_is_finished_once(private, bundles):
    pinned = replace(private, model_uri=str(bundles["penguins"]))
    elsewhere = replace(private, model_uri="/nowhere")
    startup.begin(pinned)
    begun, later = startup.finish(elsewhere), startup.finish(elsewhere)
    assert isinstance(begun, Ready)
    assert f"sha256:{bundles['penguins'].name}" == begun.digest
    assert isinstance(later, NotReady)


def test_without_a_beginning_the_model_is_loaded_at_the_end(private, bundles):
    assert isinstance(startup.finish(replace(private, model_uri=str(bundles["iris"]))), Ready)


def test_a_model_that_cannot_be_loaded_is_begun_and_finished_all_the_same(private):
    startup.begin(replace(private, model_uri="/nowhere"))
    state = startup.finish(private)
    assert isinstance(state, NotReady)
    assert state.code == "bundle_missing"


def test_a_worker_without_a_model_says_why_until_another_one_can_take_its_place(private, bundles):
    found = underway.share()
    said: list[NotReady] = []
    bundle = private.cache_dir.parent / "late"

    def say(state: NotReady) -> None:
        said.append(state)
        bundle.symlink_to(bundles["iris"])

    first = NotReady("store_unreachable", "the bucket did not answer", (), 0.01)
    startup.try_again(replace(private, model_uri=str(bundle), retry_seconds=1), first, say)
    assert ([state.code for state in said], found.is_dismissed) == (["bundle_missing"], True)
    underway.share()


def test_nothing_is_tried_again_once_the_process_is_told_to_stop(private, bundles):
    found = underway.share()
    stopping.told.set()
    try:
        pinned = replace(private, model_uri=str(bundles["iris"]))
        startup.try_again(pinned, NotReady("bundle_missing", "", (), 600), lambda state: pytest.fail(state.code))
    finally:
        stopping.told.clear()
    assert not found.is_dismissed


def test_the_start_of_a_replacement_begins_with_its_fork(private, bundles):
    pinned = replace(private, model_uri=str(bundles["penguins"]))
    forked_at = time.time() - 50
    startup.begin(pinned, replaced_at=forked_at)
    state = startup.finish(pinned)
    later = Startup(state, Clock(forked_at + 100))
    later.listening()
    startup.begin(pinned)
    first = Startup(startup.finish(pinned), Clock(time.time() + 100))
    first.listening()

    assert later.phases["total"] == 100
    # this process is older than the fork that was never made
    assert first.phases["total"] > 100


def test_all_phases_stand_in_one_line(state, caplog):
    clock = Clock(time.time() + 1000)
    started = Startup(state, clock)
    clock.seconds += 0.5
    with caplog.at_level(logging.INFO):
        started.listening()
    assert list(started.phases) == list(PHASES)
    (line,) = caplog.records
    assert (line.levelname, line.message) == ("INFO", "service.started")
    assert {f"{name}_seconds" for name in PHASES} == {name for name in vars(line) if name.endswith("_seconds")}
    assert {f"{name}_seconds": round(seconds, 4) for name, seconds in started.phases.items()}.items() <= vars(
        line
    ).items()


def test_the_phases_add_up_to_the_whole(state):
    clock = Clock(time.time() + 1000)
    started = Startup(state, clock)
    clock.seconds += 0.5
    started.listening()
    phases = dict(started.phases)
    total = phases.pop("total")
    assert (phases["listen"], sum(phases.values())) == (pytest.approx(0.5), pytest.approx(total))
    assert LOADED.items() <= phases.items()


def test_a_clock_that_was_set_back_takes_no_negative_time(state):
    assert Startup(state, Clock(0.0)).phases["imports"] == 0.0


def test_phases_that_were_never_reached_are_left_out(caplog):
    started = Startup(NotReady("hash_mismatch", "another file"))
    assert list(started.phases) == ["imports"]
    with caplog.at_level(logging.INFO):
        started.listening()
    assert {name for name in vars(caplog.records[0]) if name.endswith("_seconds")} == {
        "imports_seconds",
        "listen_seconds",
        "total_seconds",
    }


ASK = "from service.startup import process_start; print(process_start())"


def ask_a_child(*words: str) -> tuple[float, float, float]:
    """Start a process that starts another one, which tells when it was started; the moments around it too."""
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {ASK!r}], check=True)"
    before = time.time()
    found = subprocess.run(
        [sys.executable, "-c", parent, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ),
    )
    return before, float(found.stdout), time.time()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no /proc")
@pytest.mark.parametrize("words", [(), ("gunicorn",)], ids=["itself", "its parent, Gunicorn"])
def test_the_clock_begins_with_the_process(words):
    before, started, after = ask_a_child(*words)
    tick = 2 / os.sysconf("SC_CLK_TCK")
    assert before - tick <= started <= after


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no /proc")
def test_a_worker_s_clock_begins_with_gunicorn():
    ask = "from service.startup import process_start; import time; print(process_start())"
    # the parent waits for a line, so that it is older than its child by more than the clock's tick
    parent = (
        "import subprocess, sys; sys.stdin.readline(); "
        f"subprocess.run([sys.executable, '-c', {ask!r}], check=True, stdin=subprocess.DEVNULL)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent, "gunicorn"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        other = ask_a_child()[1]
        told = float(process.communicate("\n")[0])
    assert told < other
