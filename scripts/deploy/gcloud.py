"""Runs other programs, gcloud above all, and turns what they say into one line."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence


class CommandError(Exception):
    """A program failed; the text names it and ends with its last line."""


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
