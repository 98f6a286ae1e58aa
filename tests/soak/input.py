"""The promises about input, A1 to A10, in their full form, each with its number.

    python -m tests.soak.input [--only A1 A5 …] [--seconds 300]

prints a line for each and exits with 1 if one is missed. `tests/integration` and `tests/unit` have the short forms.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from functools import partial

from tests.soak import fuzz, input_bodies, input_floods, input_limits, refusals, table
from tests.soak.input_stock import Bench, Result, scratch, trained

PROMISES: dict[str, Callable[[Bench], Result]] = {
    "A1": input_bodies.a1,
    "A2": input_limits.a2,
    "A3": input_limits.a3,
    "A4": input_limits.a4,
    "A5": input_limits.a5,
    "A6": input_limits.a6,
    "A6h": input_floods.a6h,
    "A6c": input_floods.a6c,
    "A6r": refusals.a6_in_a_row,
    "A7": input_bodies.a7,
    "A8": input_bodies.a8,
    "A9": input_bodies.a9,
    "A10": lambda bench: fuzz.a10(bench.models, bench.root / "fuzz", bench.seconds),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.input", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="A1", choices=PROMISES, help="promises to try (default: all)")
    parser.add_argument("--seconds", type=int, default=300, help="how long to fuzz (default: 300)")
    parser.add_argument("--attack-seconds", type=int, default=30, help="how long A6h and A6c attack (default: 30)")
    given = parser.parse_args(arguments)
    logging.getLogger("service").addHandler(logging.NullHandler())
    with scratch() as root:
        bench = Bench(root, trained(root), given.seconds, given.attack_seconds)
        try:
            return table.run({name: partial(PROMISES[name], bench) for name in given.only or PROMISES})
        finally:
            bench.stop()


if __name__ == "__main__":
    sys.exit(main())
