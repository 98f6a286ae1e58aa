"""Brings dashboard and alerts into a project: `python -m scripts.monitoring --project PROJECT --channel ADDRESS`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from model.command_line import Parser
from scripts import places
from scripts.monitoring import commands, files
from scripts.monitoring.commands import Applying, CommandError

APPLIED, FAILED, WRONG = 0, 1, 2
CHANNEL = re.compile(r"[^\s@\"]+@[^\s@\"]+\.[^\s@\"]+|projects/[a-z0-9:.-]+/notificationChannels/[0-9]+")

EXAMPLES = """\
exit status: 0 applied, or printed; 1 a command failed, what was applied before it stays; 2 wrong usage

examples:
  python -m scripts.monitoring --project my-project --channel on-call@example.com --dry-run
  python -m scripts.monitoring --project my-project --channel projects/my-project/notificationChannels/123
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; EXAMPLES has the exit statuses."""
    parser = Parser(
        prog="python -m scripts.monitoring",
        description="Apply dashboard and alert policies of deploy/monitoring with gcloud; what is there already stays.",
        epilog=EXAMPLES,
    )
    places.add_project(parser, is_required=True)
    parser.add_argument("--channel", default="", help="who is told: an address for mail, or a channel's full name")
    places.add_dry_run(parser)
    parser.add_argument("--json", action="store_true", help="print what became of each, or each command, as JSON")
    parser.add_argument("--folder", type=Path, default=files.FOLDER, help="of the files (default: deploy/monitoring)")
    given = parser.parse_args(arguments)
    if not CHANNEL.fullmatch(given.channel):
        parser.error("--channel: name who is told, an address for mail or projects/…/notificationChannels/…")
    kept: list[object] = []
    act = commands.run if not given.dry_run else commands.keeping(kept) if given.json else commands.show
    tell = (lambda **told: kept.append(told)) if given.json else commands.say
    status = APPLIED
    try:
        Applying(given.project, given.folder, act, tell, is_real=not given.dry_run).apply(given.channel)
    except CommandError as error:
        print(f"error: {error}", file=sys.stderr)
        status = FAILED
    if given.json:
        # what was applied before a failure stays, and is told
        print(json.dumps(kept))
    return status


if __name__ == "__main__":
    sys.exit(main())
