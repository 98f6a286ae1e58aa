from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from load import processes


def test_ticks_are_found_behind_a_name_with_brackets():
    fields = ["S", *["0"] * 10, "12", "30", "99"]

    assert processes.ticks_of(f"1 (a) (b c) {' '.join(fields)}") == 42


def test_children_count_for_memory_and_time():
    child = subprocess.Popen([sys.executable, "-c", "print(flush=True); input()"], stdin=-1, stdout=-1)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        assert child.pid in processes.family(os.getpid())
        assert processes.pss_bytes(os.getpid()) > processes.pss_bytes(child.pid) > 1 << 20
    finally:
        child.communicate(b"\n")
    assert child.pid not in processes.family(os.getpid())


@pytest.mark.parametrize("status", [0, 3])
def test_a_command_runs_on_its_cores_whatever_its_status(status: int, tmp_path: Path):
    program = f"import os, sys; print(os.getcwd(), os.sched_getaffinity(0)); sys.exit({status})"

    done = processes.run_on([processes.LOAD_CORE], [sys.executable, "-c", program], tmp_path)

    assert (done.returncode, done.stderr) == (status, "")
    assert done.stdout == f"{tmp_path} {{{processes.LOAD_CORE}}}\n"
