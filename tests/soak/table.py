"""Tries promises one after the other and prints a line for each: the loop all long runs share."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Collection, Mapping

from tests.soak.integrity_stock import Result


def names_of(parser: argparse.ArgumentParser, text: str, known: Collection[str]) -> list[str]:
    """Return the names of a list separated by commas; an unknown one ends the command."""
    names = text.split(",")
    if unknown := sorted(set(names) - set(known)):
        parser.error(f"not a promise: {', '.join(unknown)}; known are {', '.join(known)}")
    return names


def run(trials: Mapping[str, Callable[[], Result]]) -> int:
    """Try each, tell what was found as it is found and again in one table; returns 1 if one is missed, else 0."""
    results = []
    for trial in trials.values():
        start = time.monotonic()
        result = trial()
        results.append((result, time.monotonic() - start))
        print(*(f"#   {line}" for line in result.lines), sep="\n")
        _show(*results[-1])
    print(f"\n{'':<5}{'asked':<62}{'found':<82}{'seconds':>8}")
    for one in results:
        _show(*one)
    return 0 if all(result.kept for result, _ in results) else 1


def _show(result: Result, seconds: float) -> None:
    """Print one line of the table."""
    word = "" if result.kept else "  MISSED"
    print(f"{result.promise:<5}{result.asked:<62}{result.found:<82}{seconds:>8.1f}{word}", flush=True)
