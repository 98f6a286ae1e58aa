"""The gcloud commands that bring dashboard and policies into a project: made where missing, renewed where there."""

from __future__ import annotations

import json
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from scripts.monitoring.files import CHANNEL

# what a command that changes something would have answered
UNKNOWN = "NAME"

# what gcloud has not declared stable yet
TRACKS = {"channels": ("beta",), "policies": ("alpha",)}

Run = Callable[[Sequence[str]], str]


class CommandError(Exception):
    """gcloud failed; the text is one line that names the command."""


def run(command: Sequence[str]) -> str:
    """Run a command to its end, and return what it printed.

    Raises:
        CommandError: it is not installed, or ended with another status than 0; its own words went to standard error.
    """
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    except FileNotFoundError as error:
        raise CommandError(f"{command[0]} is not installed") from error
    if done.returncode:
        raise CommandError(f"`{shlex.join(command)}` ended with {done.returncode}; its own words stand above")
    return done.stdout.strip()


def show(command: Sequence[str]) -> str:
    """Print a command in place of running it."""
    print(shlex.join(command))
    return ""


class Applying:
    """Brings files into one project."""

    def __init__(self, project: str, folder: Path, act: Run = run) -> None:
        """Take the project's id, the folder of the files, and what runs commands."""
        self._project, self._folder, self._act = project, folder, act
        self._is_real = act is run

    def apply(self, channel: str) -> None:
        """Apply everything.

        Args:
            channel: an address for mail, or the name of a notification channel that exists.

        Raises:
            CommandError: a command failed; what was applied before it stays.
        """
        name = self._channel(channel)
        found = self._gcloud("dashboards", "list", "--filter=displayName=Rookery", "--format=value(name)")
        self._put("dashboards", "config-from-file", self._folder / "dashboard.json", found, name)
        listed = self._gcloud("policies", "list", "--filter=userLabels.rookery:*", "--format=json")
        known = {one["displayName"]: one["name"] for one in json.loads(listed or "[]")}
        for path in sorted((self._folder / "policies").glob("*.json")):
            self._put("policies", "policy-from-file", path, known.get(path.stem, ""), name)

    def _channel(self, channel: str) -> str:
        """Return the name of the channel, made if it is a new address."""
        if channel.startswith("projects/"):
            return channel
        filter_ = f'--filter=type="email" AND labels.email_address="{channel}"'
        found = self._gcloud("channels", "list", filter_, "--format=value(name)")
        if found:
            return found.splitlines()[0]
        labels = ("--display-name=Rookery", "--type=email", f"--channel-labels=email_address={channel}")
        return self._gcloud("channels", "create", *labels, "--format=value(name)") or UNKNOWN

    def _put(self, kind: str, option: str, path: Path, found: str, channel: str) -> None:
        """Make or renew one thing from its file, with the channel filled in."""
        verb = ["update", found.splitlines()[0]] if found else ["create"]
        if not self._is_real:
            self._gcloud(kind, *verb, f"--{option}={path}")
            return
        with tempfile.TemporaryDirectory() as folder:
            filled = Path(folder, path.name)
            filled.write_text(path.read_text().replace(CHANNEL, channel))
            self._gcloud(kind, *verb, f"--{option}={filled}")

    def _gcloud(self, kind: str, verb: str, *arguments: str) -> str:
        """Run one command of gcloud."""
        start = ("gcloud", *TRACKS.get(kind, ()))
        return self._act((*start, "monitoring", kind, verb, *arguments, f"--project={self._project}", "--quiet"))
