"""Rehearses rollouts with real processes and real traffic: `python -m tests.rehearse [--only good,errors]`."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.rehearse.account import Account
from tests.rehearse.scenarios import SCENARIOS, Scenario
from tests.rehearse.stage import Stage, bundle_in, check_bundle

HEAD = f"{'scenario':<18}{'expected':<28}{'seen':<28}{'seconds':>8}{'back':>6}{'requests':>10}"
HEAD += f"{'lost':>6}{'wrong':>7}{'by stable':>11}{'exposed':>9}{'left':>6}"

FOOT = """
back: seconds from the candidate's death until it had no traffic, with a look a second;
lost: requests that clients saw fail; wrong: answered 200 with another class; by stable: lost, and not the candidate's;
exposed: answered by the candidate; left: requests for hosts that are not on this machine, all refused"""


def rehearse(
    scenario: Scenario,
    bundle: Path,
    *,
    stable: Path | None = None,
    changed_max: float = 0.05,
    is_verbose: bool = False,
) -> tuple[bool, str]:
    """Play one scenario; returns whether all was as it must be, and its line of the table."""
    began = time.monotonic()
    with Stage(
        bundle,
        stable=stable,
        deadline_seconds=scenario.deadline_seconds,
        changed_max=changed_max,
        first_percent=scenario.first_percent,
    ) as stage:
        try:
            seen = scenario.play(stage)
        except (AssertionError, TimeoutError, KeyError) as error:
            seen = f"{type(error).__name__}: {error}"
        stage.end_load()
        log = stage.cloud.log
        account = Account.of(stage.counts, log, stage.newest)
        left = len(stage.cloud.refused)
        if is_verbose or seen != scenario.expected:
            print(stage.said, stage.cloud.said(stage.newest)[-1000:], flush=True)
            print(Counter((one.revision, one.path, one.status) for one in log if one.status != 200), flush=True)
    trouble = account.trouble(scenario.harm, scenario.percent or scenario.first_percent)
    back = "-" if stage.back_seconds is None else f"{stage.back_seconds:.1f}"
    is_kept = seen == scenario.expected and not trouble and left == 0
    line = f"{scenario.name:<18}{scenario.expected:<28}{seen:<28}{time.monotonic() - began:>8.1f}{back:>6}"
    line += f"{account.sent:>10}{account.lost:>6}{account.wrong:>7}{account.by_stable:>11}{account.exposed:>9}{left:>6}"
    return is_kept, line + ("" if is_kept else f"  NOT AS EXPECTED {trouble}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Play scenarios and print the table; returns 1 if one did not come out as it must."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.rehearse",
        description="Rehearse rollouts on this machine: a local Cloud Run, a fake bucket, real servers, real traffic.",
        epilog="examples: python -m tests.rehearse --only good,errors; "
        "python -m tests.rehearse --only good --bundles bundles/machines --stable bundles/machines/1dbd…",
    )
    parser.add_argument("--only", default=",".join(one.name for one in SCENARIOS), help="names, separated by commas")
    parser.add_argument("--bundles", type=Path, default=Path("bundles/penguins"), help="folder with a file `current`")
    parser.add_argument("--stable", type=Path, help="bundle folder of the stable revision (default: the same bundle)")
    parser.add_argument(
        "--changed-max", type=float, default=0.05, help="share of the rows that may change class (default: 0.05)"
    )
    parser.add_argument("--verbose", action="store_true", help="print what each controller said")
    given = parser.parse_args(arguments)
    names = given.only.split(",")
    if unknown := set(names) - {one.name for one in SCENARIOS}:
        parser.error(f"no scenario {', '.join(sorted(unknown))}")
    bundle = bundle_in(given.bundles).resolve()
    stable = given.stable and given.stable.resolve()
    for one in filter(None, (stable, bundle)):
        check_bundle(one)
    print(HEAD, flush=True)
    results = [_one(one, bundle, stable, given) for one in SCENARIOS if one.name in names]
    print(FOOT)
    print(f"{sum(results)} of {len(results)} as expected")
    return 0 if all(results) else 1


def _one(scenario: Scenario, bundle: Path, stable: Path | None, given: argparse.Namespace) -> bool:
    if not scenario.can_be_played:
        print(f"{scenario.name:<17}not played: gcloud is not installed", flush=True)
        return True
    is_kept, line = rehearse(scenario, bundle, stable=stable, changed_max=given.changed_max, is_verbose=given.verbose)
    print(line, flush=True)
    return is_kept


if __name__ == "__main__":
    sys.exit(main())
