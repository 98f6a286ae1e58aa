"""Sets a project up: `python -m scripts.bootstrap --project P --region R [--github owner/name] [--dry-run]`."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives import serialization

from model.command_line import Parser
from model.sign import make_keys
from scripts import places
from scripts.bootstrap import plan
from scripts.bootstrap.plan import Step
from scripts.deploy.gcloud import CommandError, run

FAILED = 1
RUN_MONITORING = Path(__file__).resolve().parents[2] / "deploy/monitoring/run-monitoring.yml"


class Done(NamedTuple):
    """What became of the steps.

    Attributes:
        made: names of what was made.
        there: names of what was there already.
        github: the variables that GitHub must know, by name.
    """

    made: list[str]
    there: list[str]
    github: dict[str, str]


def main(arguments: Sequence[str] | None = None, env: Mapping[str, str] = os.environ) -> int:
    """Run the command; returns 0, or 1 if a step failed: run it again when its cause is mended."""
    given = _parser().parse_args(arguments)
    steps = plan.steps(given.project, given.region, given.github)
    if given.dry_run:
        _print_commands(
            [*steps, *plan.last_rights(given.project, given.github, "serviceAccount:SINK", "NUMBER")], given
        )
        return 0
    done = Done(made=[], there=[], github={})
    status = 0
    try:
        for step in steps:
            _settle(step, env, done)
        made = len(done.made)
        _let_in(given.project, given.github, env, done)
    except CommandError as error:
        print(f"error: {error}", file=sys.stderr)
        status = FAILED
    roles = [step.name for step in steps if step.name.startswith("roles/")]
    if given.json:
        # what was made before a failure stays, and is told
        print(json.dumps({**done._asdict(), "roles": roles}))
    elif status == 0:
        print(f"{made} of {len(steps)} things were made, the others were there")
        # who may do what, and nothing more than that
        print("\n".join(["roles:", *(f"  {name}" for name in roles)]))
        if done.github:
            print("set in GitHub:", *(f"{name}={value}" for name, value in done.github.items()))
    return status


def _print_commands(steps: Sequence[Step], given: argparse.Namespace) -> None:
    """Print every command that would make something."""
    if given.json:
        print(json.dumps([{"name": step.name, "command": step.do} for step in steps]))
        return
    for step in steps:
        print(f"# {step.name}\n{shlex.join(step.do)}")


def _parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = Parser(
        prog="python -m scripts.bootstrap",
        description="Set a Google Cloud project up; what is there already is left alone.",
        epilog="exit status: 0 everything is there; 1 a step failed: mend its cause and run it again; 2 wrong usage\n\n"
        "example: python -m scripts.bootstrap --project my-project --region europe-west1 --dry-run",
    )
    places.add_project(parser, is_required=True)
    places.add_region(parser, is_required=True)
    parser.add_argument("--github", default="", help="owner/name of the repository whose main branch deploys")
    places.add_dry_run(parser)
    parser.add_argument("--json", action="store_true", help="print what was made, or would be run, as JSON")
    return parser


def _settle(step: Step, env: Mapping[str, str], done: Done) -> None:
    """Make what a step is about, unless it is there, and note which."""
    asked = subprocess.run(step.ask, env=dict(env), capture_output=True, text=True, check=False)
    said = {line.strip() for line in asked.stdout.splitlines()}
    if asked.returncode == 0 and said.issuperset(step.expected):
        print(f"is there  {step.name}", file=sys.stderr, flush=True)
        done.there.append(step.name)
        return
    run(step.do, env, stdin=_stdin(step, env))
    print(f"made      {step.name}", file=sys.stderr, flush=True)
    done.made.append(step.name)


def _stdin(step: Step, env: Mapping[str, str]) -> str | None:
    """Return a secret's content: a new private key, the public half of the stored one, or the sidecar's file."""
    if not step.stdin:
        return None
    if step.stdin == "run-monitoring":
        return RUN_MONITORING.read_text()
    if step.stdin == "public":
        project = next(word for word in step.do if word.startswith("--project="))
        secret = "--secret=rookery-signing-key"  # noqa: S105 - a name
        stored = run(["gcloud", "secrets", "versions", "access", "latest", secret, project], env)
        key = serialization.load_pem_private_key(stored.encode(), None)
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()
    # in memory, where there is such a folder
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:  # noqa: S108
        return make_keys(Path(folder) / "keys")[0].read_text()


def _let_in(project: str, github: str, env: Mapping[str, str], done: Done) -> None:
    """Let the log sink write to its dataset and GitHub act as the build: both have names only once they are there."""
    show = ["gcloud", "logging", "sinks", "describe", "rookery-predictions", f"--project={project}"]
    writer = run([*show, "--format=value(writerIdentity)"], env)
    number = run(["gcloud", "projects", "describe", project, "--format=value(projectNumber)"], env)
    for step in plan.last_rights(project, github, writer, number):
        _settle(step, env, done)
    if github:
        provider = f"{plan.pool(number)}/providers/github"
        done.github.update(ROOKERY_IDENTITY_PROVIDER=provider, ROOKERY_PROJECT=project)


if __name__ == "__main__":
    sys.exit(main())
