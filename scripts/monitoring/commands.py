"""The gcloud commands that bring dashboard and policies into a project: made, renewed, or left as they are."""

from __future__ import annotations

import json
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.monitoring import renewal
from scripts.monitoring.files import CHANNEL

# what a command that changes something would have answered
UNKNOWN = "NAME"
# what gcloud has not declared stable yet
TRACKS = {"channels": ("beta",), "policies": ("alpha",)}

Run = Callable[[Sequence[str]], str]
Tell = Callable[..., None]


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


def keeping(kept: list[object]) -> Run:
    """Return what keeps a command, as a list of words, in place of running it."""

    def keep(command: Sequence[str]) -> str:
        kept.append(list(command))
        return ""

    return keep


def say(*, what: str, kind: str, name: str) -> None:
    """Print what became of one thing."""
    print(f"{what}: {kind} {name}", flush=True)


class Applying:
    """Brings files into one project."""

    def __init__(self, project: str, folder: Path, act: Run = run, tell: Tell = say, *, is_real: bool = True) -> None:
        """Take what is meant and how it is done.

        Args:
            project: its id.
            folder: of the files.
            act: runs commands.
            tell: told `what` became of a `kind` of thing and its `name`.
            is_real: whether commands are run, so that their answers count.
        """
        self._project, self._folder, self._act, self._tell, self._is_real = project, folder, act, tell, is_real

    def apply(self, channel: str) -> None:
        """Apply everything that is not there as its file says; a line tells what became of each.

        Args:
            channel: an address for mail, or the name of a notification channel that exists.

        Raises:
            CommandError: a command failed; what was applied before it stays.
        """
        name = self._channel(channel)
        self._put_all("dashboards", "config", [self._folder / "dashboard.json"], "labels", name)
        self._put_all("policies", "policy", sorted((self._folder / "policies").glob("*.json")), "userLabels", name)

    def _channel(self, channel: str) -> str:
        """Return the name of the channel, made if it is a new address."""
        if channel.startswith("projects/"):
            return channel
        for one in self._list("channels", "--type=email"):
            if one["labels"]["email_address"] == channel:
                return str(one["name"])
        labels = ("--display-name=Rookery", "--type=email", f"--channel-labels=email_address={channel}")
        return self._gcloud("channels", "create", *labels, "--format=value(name)") or UNKNOWN

    def _put_all(self, kind: str, option: str, paths: Sequence[Path], labels: str, channel: str) -> None:
        """Make or renew things of one kind from their files, with the channel filled in; `labels` tell what is ours."""
        known = {one["displayName"]: one for one in self._list(kind) if "rookery" in one.get(labels, {})}
        for path in paths:
            if self._is_real:
                wanted = json.loads(path.read_text().replace(CHANNEL, channel))
                what = self._put(kind, option, wanted, known.pop(wanted["displayName"], None))
                self._tell(what=what, kind=kind, name=path.stem)
            else:
                self._gcloud(kind, "create", f"--{option}-from-file={path}")
        for name in known:
            self._tell(what="left, has no file any more", kind=kind, name=name)

    def _put(self, kind: str, option: str, wanted: dict[str, Any], there: Mapping[str, Any] | None) -> str:
        """Make or renew one thing, and say which."""
        if there is not None and renewal.is_same(wanted, there):
            return "unchanged"
        with tempfile.TemporaryDirectory() as folder:
            filled = Path(folder, "filled.json")
            if there is None:
                filled.write_text(json.dumps(wanted))
                self._gcloud(kind, "create", f"--{option}-from-file={filled}")
                return "made"
            filled.write_text(json.dumps(renewal.as_version_of(there, wanted)))
            self._gcloud(kind, "update", there["name"], f"--{option}-from-file={filled}")
            return "renewed"

    def _list(self, kind: str, *arguments: str) -> list[dict[str, Any]]:
        """Return everything of one kind that is there."""
        found: list[dict[str, Any]] = json.loads(self._gcloud(kind, "list", *arguments, "--format=json") or "[]")
        return found

    def _gcloud(self, kind: str, verb: str, *arguments: str) -> str:
        """Run one command of gcloud."""
        return self._act(
            (
                "gcloud",
                *TRACKS.get(kind, ()),
                "monitoring",
                kind,
                verb,
                *arguments,
                f"--project={self._project}",
                "--quiet",
            )
        )
