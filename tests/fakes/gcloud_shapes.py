"""Says what of a request's body Google's own message classes do not know; they come with gcloud, made from the API.

A program of its own, as gcloud's libraries stand in no environment: its input is a list of kind and body in JSON, its
output a line for each member, or value of an enumeration, that is unknown.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

MESSAGES = {
    "dashboards": ("v1.monitoring_v1_messages", "Dashboard"),
    "alertPolicies": ("v3.monitoring_v3_messages", "AlertPolicy"),
    "notificationChannels": ("v3.monitoring_v3_messages", "NotificationChannel"),
}


def unknown(bodies: Sequence[tuple[str, dict[str, Any]]], environment: dict[str, str]) -> list[str]:
    """Return what is unknown, by its place."""
    asked = ["gcloud", "info", "--format=value(installation.sdk_root)"]
    root = subprocess.run(asked, env=environment, capture_output=True, text=True, check=True).stdout.strip()
    paths = f"{root}/lib:{root}/lib/third_party"
    done = subprocess.run(
        [sys.executable, Path(__file__)],
        env={**environment, "PYTHONPATH": paths, "PYTHONWARNINGS": "ignore"},
        input=json.dumps(bodies),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise AssertionError(done.stderr)
    return done.stdout.splitlines()


def _members(message: Any, place: str) -> Iterator[str]:
    """Yield what a message did not know of its JSON, in its parts too."""
    for name in message.all_unrecognized_fields():
        yield f"{place}.{name}"
    for field in message.all_fields():
        value = getattr(message, field.name)
        for one in value if isinstance(value, list) else [value]:
            if hasattr(one, "all_unrecognized_fields"):
                yield from _members(one, f"{place}.{field.name}")


def main() -> None:
    """Read bodies, and print what is unknown."""
    from importlib import import_module

    encoding: Any = import_module("apitools.base.py.encoding")
    for kind, body in json.load(sys.stdin):
        module, name = MESSAGES[kind]
        messages = import_module(f"googlecloudsdk.generated_clients.apis.monitoring.{module}")
        for place in _members(encoding.JsonToMessage(getattr(messages, name), json.dumps(body)), kind):
            print(place)


if __name__ == "__main__":
    main()
