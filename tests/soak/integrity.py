"""The promises about model integrity, M1 to M8 (without M3, which has its own tests), each with its number.

    python -m tests.soak.integrity [M1 M4 …] [--quick]

prints a line for each and exits with 1 if one is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from tests.conftest import quick_spec
from tests.soak import damage, structures, table
from tests.soak.integrity_attacks import m4, m5
from tests.soak.integrity_crash import m7
from tests.soak.integrity_damage import m1
from tests.soak.integrity_disk import m8
from tests.soak.integrity_faults import m6
from tests.soak.integrity_stock import Result, Stock, make, scratch


def m2(stock: Stock, count: int = 250, only: str = "") -> Result:
    """Run the structure experiment, which trains six models of its own: `count` edits of each, and as many damages."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        status = damage.structure(count, only)
    lines = text.getvalue().splitlines()
    # the last column of the structural edits: answers that differ and that nothing refuses
    missed = [int(line.split()[-1]) for line in lines if " structure  after" in line]
    found = f"{len(missed) * count} edits, {'0 crashes' if status == 0 else 'crashes'}, {sum(missed)} missed"
    return Result(
        "M2", f"{6 * 250} edits, 0 crashes, 0 missed", found, status == 0 and sum(missed) == 0 < len(missed), lines
    )


def m2_manifests(stock: Stock, part: float = 1.0) -> Result:
    """Try every odd value for every kind of member of two manifests, or a part of them."""
    outcomes = [structures.run(folder, part=part) for folder in (stock.old, stock.other)]
    counts = sum((one.counts for one in outcomes), Counter[str]())
    faults = [fault for one in outcomes for fault in one.faults]
    found = f"{sum(counts.values())} manifests, {counts['served']} served, {len(faults)} badly"
    lines = [f"{count:>6} {end}" for end, count in counts.most_common()]
    return Result("M2", "odd members are refused, or every route answers", found, not faults, [*lines, *faults])


LONG: dict[str, Callable[[Stock], Result]] = {
    "M1": m1,
    "M2": m2,
    "M2m": m2_manifests,
    "M4": m4,
    "M5": m5,
    "M6": m6,
    "M7": m7,
    "M8": m8,
}
QUICK: dict[str, Callable[[Stock], Result]] = {
    "M1": lambda stock: m1(stock, 40),
    "M2": lambda stock: m2(stock, 20, "penguins/model.json"),
    "M2m": lambda stock: m2_manifests(stock, 0.02),
    "M4": lambda stock: m4(stock, 1),
    "M5": lambda stock: m5(stock, 60),
    "M6": lambda stock: m6(stock, 1),
    "M7": lambda stock: m7(stock, 10),
    "M8": m8,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.integrity", description=__doc__)
    parser.add_argument("promises", nargs="*", metavar="M1", help="promises to try (default: all)")
    parser.add_argument("--quick", action="store_true", help="the sizes of the test suite")
    given = parser.parse_args(arguments)
    unknown = set(given.promises) - set(LONG)
    if unknown:
        parser.error(f"not a promise: {', '.join(sorted(unknown))}; known are {', '.join(LONG)}")
    logging.getLogger("service").addHandler(logging.NullHandler())
    os.environ.update({"DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA": "true", "NO_PROXY": "127.0.0.1"})
    with scratch() as root:
        plain, other = (damage.trained(quick_spec(name, root), root / "plain") for name in ("penguins", "iris"))
        folders = [root / "plain" / b.manifest.name / b.digest.removeprefix("sha256:") for b in (plain, other)]
        stock = make(root, *folders)
        trials = QUICK if given.quick else LONG
        return table.run({name: partial(trials[name], stock) for name in given.promises or LONG})


if __name__ == "__main__":
    sys.exit(main())
