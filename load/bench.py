"""Measures Rookery against the limit and its peers, as ratios in one run: `python -m load.bench --help`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from load import bundles, parts, printing, processes, tensors, watching
from load.servers import LoadError
from load.verdicts import DEMANDS, judge
from model.command_line import Parser

PARTS = {**parts.PARTS, "watching": watching.watching, "tensors": tensors.tensors}

EXAMPLES = """examples:
  python -m load.bench                                      everything, as `make bench` does
  python -m load.bench --only throughput,tail --seconds 10
  python -m load.bench --rounds 1 --seconds 1 --starts 3 --predictions 2000     a quick look, not a measurement

exit status: 0 every must is kept, 1 one is missed, 2 the run is worth nothing, or wrong usage
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts asked for, print what they found and write it down.

    Returns:
        The exit status: 0 every must is kept, 1 one is missed, 2 the run is worth nothing.
    """
    given = parse(arguments)
    bundle = bundles.read(given.bundle)
    processes.become_load()
    bench = parts.Bench(
        bundle=bundle,
        rounds=given.rounds,
        seconds=given.seconds,
        connections=given.connections,
        starts=given.starts,
        predictions=given.predictions,
        with_mlserver=given.all,
    )
    try:
        for name in given.only:
            PARTS[name](bench)
    except LoadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    judged = [found for demand in (*DEMANDS, *bench.demands) if (found := judge(demand, bench.samples)) is not None]
    print(printing.measured(bench.samples))
    print(printing.ratios(judged))
    print("\n".join(bench.notes))
    printing.write(given.json, bench, judged, sys.argv)
    print(f"written to {given.json}")
    return 1 if any(found.verdict == "missed" for found in judged) else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(
        prog="python -m load.bench",
        description=__doc__,
        epilog=EXAMPLES,
    )
    parser.add_argument("--bundle", type=Path, default=Path("bundles/penguins"), help="default: bundles/penguins")
    parser.add_argument("--only", type=_parts, default=list(PARTS), help=f"some of {','.join(PARTS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds (default: 3)")
    parser.add_argument("--seconds", type=float, default=5, help="of load per server and round (default: 5)")
    parser.add_argument("--connections", type=int, default=16, help="kept alive (default: 16)")
    parser.add_argument("--starts", type=int, default=10, help="cold starts of each server (default: 10)")
    parser.add_argument("--predictions", type=int, default=100_000, help="before memory is read (default: 100,000)")
    parser.add_argument("--all", action="store_true", help="MLServer too; `make bench-all` installs it")
    parser.add_argument("--json", type=Path, default=Path("load/results/bench.json"), help="where the figures go")
    return parser.parse_args(arguments)


def _parts(text: str) -> list[str]:
    """Read the names of parts."""
    names = text.split(",")
    unknown = sorted(set(names) - set(PARTS))
    if unknown:
        raise argparse.ArgumentTypeError(f"no part is called {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
