"""Three crashes within a minute set a bundle aside; the quarantine says how long it lasts, and can be lifted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from model.errors import BundleError
from model.quarantine import Quarantine
from tests.conftest import ROOT

A, B = "a" * 64, "b" * 64


class Clock:
    """A wall clock that is set by hand."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def quarantine(tmp_path: Path, clock: Clock) -> Quarantine:
    return Quarantine(tmp_path / "cache", clock)


def crash(quarantine: Quarantine, clock: Clock, moments: list[float], digest: str = A) -> list[bool]:
    found = []
    for moment in moments:
        clock.seconds = moment
        found.append(quarantine.note_crash(digest))
    return found


@pytest.mark.parametrize("prefix", ["", "sha256:"], ids=["bare", "with prefix"])
@pytest.mark.parametrize("moments", [[1_000, 1_000, 1_000], [1_000, 1_020, 1_060]], ids=["at once", "within a minute"])
def test_the_third_crash_sets_a_bundle_aside(quarantine, clock, prefix, moments):
    assert crash(quarantine, clock, moments, prefix + A) == [False, False, True]
    assert (quarantine.holds(A), quarantine.holds(f"sha256:{A}"), quarantine.holds(B)) == (True, True, False)


@pytest.mark.parametrize("moments", [[1_000, 1_031, 1_062, 1_093], [1_000, 500, 100]], ids=["far apart", "set back"])
def test_crashes_far_apart_set_nothing_aside(quarantine, clock, moments):
    assert crash(quarantine, clock, moments) == [False] * len(moments)


def test_crashes_are_counted_for_each_bundle(quarantine, clock):
    assert crash(quarantine, clock, [1_000, 1_000], A) == crash(quarantine, clock, [1_000, 1_000], B) == [False] * 2


def test_crashes_that_no_longer_count_leave_no_file(quarantine, clock, tmp_path):
    (tmp_path / "cache" / "crashed").mkdir(parents=True)
    others = ["notes", f"x-{A}", "1-short"]
    for name in others:
        (tmp_path / "cache" / "crashed" / name).touch()
    crash(quarantine, clock, [1_000, 2_000, 3_000])

    left = [name for name in os.listdir(tmp_path / "cache" / "crashed") if name not in others]
    assert [name.partition("-")[0] for name in left] == ["3000000000000"]
    assert len(os.listdir(tmp_path / "cache" / "crashed")) == 4


def test_a_quarantine_lasts_from_the_third_crash_on(quarantine, clock):
    assert quarantine.left_seconds(A, 300) is None
    crash(quarantine, clock, [1_000, 1_010, 1_020, 1_050])
    clock.seconds = 1_120
    assert quarantine.left_seconds(A, 300) == 200
    clock.seconds = 1_320
    assert quarantine.left_seconds(A, 300) == 0
    # a clock that was set back must not hold it for ever
    clock.seconds = 10
    assert quarantine.left_seconds(A, 300) == 0


def test_a_quarantine_of_unknown_age_is_over(quarantine, tmp_path):
    (tmp_path / "cache" / "quarantine").mkdir(parents=True)
    (tmp_path / "cache" / "quarantine" / A).touch()
    assert (quarantine.holds(A), quarantine.left_seconds(A, 300)) == (True, 0)


def test_a_lifted_bundle_begins_anew(quarantine, clock):
    crash(quarantine, clock, [1_000, 1_000, 1_000])
    quarantine.lift(f"sha256:{A}")
    assert (quarantine.holds(A), quarantine.left_seconds(A, 300)) == (False, None)
    assert crash(quarantine, clock, [1_001, 1_001]) == [False, False]
    quarantine.lift(B)


def test_another_process_reads_what_was_noted(quarantine, clock, tmp_path):
    crash(quarantine, clock, [1_000, 1_000, 1_000])
    code = "import sys; from pathlib import Path; from model.quarantine import Quarantine\n"
    code += f"print(Quarantine(Path(sys.argv[1])).holds({A!r}), 'numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "cache")], cwd=ROOT, capture_output=True, text=True, check=True
    )
    # Gunicorn's parent process imports it too
    assert done.stdout == "True False\n"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_somebody_else_is_refused(quarantine, tmp_path):
    assert quarantine.note_crash(A) is False
    os.chown(tmp_path / "cache", 12345, -1)
    with pytest.raises(BundleError, match="belongs to user 12345"):
        quarantine.note_crash(A)


def test_a_disk_that_cannot_be_written_to_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    broken = Quarantine(tmp_path / "file")
    with pytest.raises(OSError, match=r"File exists|Not a directory"):
        broken.note_crash(A)
    broken.lift(A)
    assert broken.left_seconds(A, 300) is None
