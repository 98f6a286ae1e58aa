"""Rolls a candidate out: `python -m scripts.rollout run|status|pause|resume|approve|abort|retry|promote|rollback|…`."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import requests

from scripts.deploy.gcloud import NoProjectError, locate
from scripts.rollout import arguments, record, replay, simulate, verbs, wiring
from scripts.rollout import state as states
from scripts.rollout.controller import End
from scripts.rollout.credentials import CredentialsError
from scripts.rollout.plan import PlanError
from scripts.rollout.platform import PlatformError, Unavailable
from scripts.rollout.postmortem import commits_between, explain, postmortem
from scripts.rollout.record import RecordError
from scripts.rollout.smoke import is_alive
from scripts.rollout.state import RolloutError
from scripts.rollout.traces import CANDIDATES
from scripts.rollout.view import line
from scripts.rollout.wiring import UsageError

FAILED, USAGE, UNVERIFIED, UNAVAILABLE, BROKEN, UNSURE, INTERRUPTED = 1, 2, 6, 7, 8, 12, 130
STATUS = {
    End.PROMOTED: 0,
    End.ROLLED_BACK: 3,
    End.STOOD_DOWN: 4,
    End.HELD: 5,
    End.UNVERIFIED: UNVERIFIED,
    End.UNAVAILABLE: UNAVAILABLE,
    End.ALONE: 9,
    End.UNFIT: 10,
    End.SUPERSEDED: 11,
    End.INTERRUPTED: INTERRUPTED,
}


def main(given_arguments: Sequence[str] | None = None, env: Mapping[str, str] = os.environ) -> int:
    """Run a verb; `arguments.EXAMPLES` has the exit statuses."""
    given = arguments.parser().parse_args(given_arguments)
    _log_reasons()
    offline = {"explain": _explain, "replay": _replay, "simulate": _simulate}
    try:
        if given.verb in offline:
            return offline[given.verb](given)
        locate(given, env)
        return {"run": _run, "status": _status}.get(given.verb, _change)(given, env)
    except (UsageError, NoProjectError, PlanError, CredentialsError, RecordError) as error:
        return _refuse(USAGE, str(error))
    except Unavailable as error:
        return _refuse(UNAVAILABLE, f"{error}; run again to go on")
    except KeyboardInterrupt:
        return _refuse(INTERRUPTED, "interrupted; see status for where the traffic is")
    except verbs.Unsure as error:
        return _refuse(UNSURE, str(error))
    except (RolloutError, PlatformError) as error:
        return _refuse(FAILED, str(error))


def _log_reasons() -> None:
    """Let warnings say why on standard error; otherwise only their names would show."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("warning: %(message)s: %(reason)s", defaults={"reason": "see the record"}))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


def _refuse(status: int, text: str) -> int:
    print(f"error: {text}", file=sys.stderr)
    return status


def _run(given: argparse.Namespace, env: Mapping[str, str]) -> int:
    found = wiring.bundle(given)
    served = wiring.platform(given, env)
    rules = wiring.plan_of(served, given)
    beats = wiring.pulse(given, env)
    controller = wiring.controller(given, env, served, rules, found, beats)
    with wiring.interruptible():
        try:
            return STATUS[controller.run(found.digest, given.candidate)]
        finally:
            if beats:
                beats.close()


def _status(given: argparse.Namespace, env: Mapping[str, str]) -> int:
    served = wiring.platform(given, env)
    table = verbs.status(served.read(), wiring.plan_of(served, given), time.time())
    _print(table, given.json)
    return 0


def _change(given: argparse.Namespace, env: Mapping[str, str]) -> int:
    """Do what a person says, and verify a rollback with a real request."""
    served = wiring.platform(given, env)
    rules = wiring.plan_of(served, given)
    person = verbs.Person(served, wiring.WallClock(), rules)
    does = {"resume": person.resume, "approve": person.approve, "retry": person.retry}
    says = {"pause": person.pause, "promote": person.promote, "abort": person.abort}
    if given.verb == "rollback":
        _roll_back(given, person, verbs.destination(served.read(), rules, given.to))
    elif given.verb in does:
        does[given.verb]()
    else:
        says[given.verb](given.reason)
    service = served.read()
    if beats := wiring.pulse(given, env):
        beats.say(verbs.unjudged(service, rules))
    _print({"did": given.verb} | verbs.status(service, wiring.plan_of(served, given), time.time()), given.json)
    if given.verb not in ("abort", "rollback"):
        return 0
    token = wiring.token(given.token, env, service.url)
    if trouble := is_alive(requests.Session(), service.url, token()):
        return _refuse(UNVERIFIED, f"{', '.join(states.shares(service))} has all traffic, but: {trouble}")
    return 0


def _roll_back(given: argparse.Namespace, person: verbs.Person, goal: verbs.Destination) -> None:
    """Say what a rollback will do, and ask where somebody else moved traffic since; without a terminal, refuse."""
    print(f"rollback: {goal}", file=sys.stderr)
    is_sure = given.yes
    if goal.doubt and not is_sure and sys.stdin is not None and sys.stdin.isatty():
        print(f"{goal.doubt}", file=sys.stderr)
        # the end of the input is no yes
        with contextlib.suppress(EOFError):
            is_sure = input(f"give {goal.revision} everything? [y/N] ").strip().lower() in ("y", "yes")
    # what was agreed to is done, and nothing that came up meanwhile
    person.rollback(given.reason, to=goal.revision if is_sure and goal.doubt else given.to, is_sure=is_sure)


def _explain(given: argparse.Namespace) -> int:
    events = record.read(given.record, given.rollout)
    if given.postmortem:
        probed = next((event.probe for event in events if event.probe and event.probe.commit), None)
        older = given.older or (probed.stable_commit if probed else "")
        newer = given.newer or (probed.commit if probed else "")
        commits = commits_between(Path.cwd(), older, newer) if older and newer else []
        print(postmortem(events, commits), end="")
    elif given.json:
        for event in events:
            print(json.dumps(record.to_table(event)))
    else:
        print("\n".join(explain(events)))
    return 0


def _replay(given: argparse.Namespace) -> int:
    events = record.read(given.record, given.rollout)
    rules = wiring.read_plan(given.slo, given.plan or events[-1].state.plan)
    decisions = replay.again(events, rules)
    for one in decisions:
        if given.json:
            print(json.dumps({"time_seconds": one.event.time_seconds, "differs": one.differs, "now": asdict(one.now)}))
        elif one.differs:
            print(f"{line(one.event)}\n             now {one.now.verdict}: {one.now.reason}")
    changed = sum(one.differs for one in decisions)
    if not given.json:
        print(f"{len(decisions)} decisions judged again, {changed} differ")
    return BROKEN if changed else 0


def _simulate(given: argparse.Namespace) -> int:
    rules = wiring.read_plan(given.slo, given.plan or "canary")
    kinds = given.only or list(CANDIDATES)
    if unknown := [kind for kind in kinds if kind not in CANDIDATES]:
        raise UsageError(f"no kind {', '.join(unknown)}; there are: {', '.join(CANDIDATES)}")
    lines, is_kept = simulate.table(rules, given.rollouts, given.seed, kinds)
    print("\n".join(lines))
    return 0 if is_kept else BROKEN


def _print(table: Mapping[str, object], is_json: bool) -> None:
    if is_json:
        print(json.dumps(table))
        return
    for name, value in table.items():
        print(f"{name:<30}{value}")


if __name__ == "__main__":
    sys.exit(main())
