"""Runs other programs, gcloud above all, and turns what they say into one line."""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Mapping, Sequence


class CommandError(Exception):
    """A program failed; the text names it and ends with its last line."""


class NoProjectError(Exception):
    """Nobody said which project is meant; the text says what to do."""


def locate(given: argparse.Namespace, env: Mapping[str, str]) -> None:
    """Fill in project and region where they were not given: gcloud's own, and `us-central1`.

    Raises:
        NoProjectError: gcloud has none either.
    """
    given.project = given.project or configured("project", env)
    given.region = given.region or configured("run/region", env) or "us-central1"
    if not given.project:
        raise NoProjectError("no project; give --project, or run: gcloud config set project PROJECT")


def run(command: Sequence[str], env: Mapping[str, str], *, stdin: str | None = None) -> str:
    """Run a program to its end and return what it wrote; its progress goes to our standard error.

    Raises:
        CommandError: it is not there, or ended with another status than 0.
    """
    try:
        done = subprocess.run(command, env=dict(env), input=stdin, text=True, stdout=subprocess.PIPE, check=False)
    except FileNotFoundError as error:
        raise CommandError(f"{command[0]} is not installed") from error
    if done.returncode:
        raise CommandError(f"`{' '.join(command)}` ended with {done.returncode}; its own words stand above")
    return done.stdout.strip()


def configured(name: str, env: Mapping[str, str]) -> str:
    """Return a value of gcloud's configuration, such as `project` or `run/region`; empty where it has none."""
    command = ["gcloud", "config", "get", name]
    try:
        done = subprocess.run(command, env=dict(env), text=True, capture_output=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()
