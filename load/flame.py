"""Profiles the server under load: a flame graph, and the ten functions that take the most time themselves."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from load import bundles, closedloop, processes, servers
from load.servers import ROOKERY, LoadError
from model.command_line import Parser

PROFILER = Path(".venv-peers/bin/py-spy")
SAMPLES_PER_SECOND = 250


def self_times(raw: str) -> Counter[str]:
    """Add up py-spy's raw format by the innermost function: lines of `outer;inner samples`."""
    found: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, samples = line.rpartition(" ")
        found[stack.rpartition(";")[2]] += int(samples)
    return found


def record(pid: int, seconds: float, kind: str, output: Path) -> None:
    """Let py-spy sample a process; `kind` is `raw` or `flamegraph`.

    Raises:
        LoadError: it fails; it may need the right to trace.
    """
    command = [str(PROFILER), "record", "--pid", str(pid), "--duration", str(max(round(seconds), 1))]
    command += ["--rate", str(SAMPLES_PER_SECOND), "--function", "--format", kind, "--output", str(output)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        raise LoadError(f"py-spy: {found.stderr.strip()[-500:]}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Load the server, record it twice, print what takes the time."""
    parser = Parser(
        prog="python -m load.flame",
        description=__doc__,
        epilog="exit status: 0 written, 2 the run is worth nothing, or wrong usage\n\n"
        "example: python -m load.flame --seconds 5",
    )
    parser.add_argument("--bundle", type=Path, default=Path("bundles/penguins"), help="default: bundles/penguins")
    parser.add_argument("--seconds", type=float, default=10, help="of each recording (default: 10)")
    parser.add_argument("--out", type=Path, default=Path("load/results"), help="default: load/results")
    given = parser.parse_args(arguments)
    bundle = bundles.read(given.bundle)
    given.out.mkdir(parents=True, exist_ok=True)
    processes.become_load()
    graph, raw = given.out / "flame.svg", given.out / "flame.txt"
    try:
        with servers.serving(ROOKERY, bundle) as running:
            post = ROOKERY.one(bundle.instances(1)[0])
            # the worker; its parent only waits
            worker = processes.family(running.pid)[-1]
            load = threading.Thread(target=closedloop.measure, args=(running, post, 2 * given.seconds + 4, 16))
            load.start()
            try:
                record(worker, given.seconds, "flamegraph", graph)
                record(worker, given.seconds, "raw", raw)
            finally:
                load.join()
    except LoadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    times = self_times(raw.read_text())
    for function, samples in times.most_common(10):
        print(f"{samples / times.total():6.1%}  {function}")
    print(f"written to {graph}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
