"""Says how good the answers were: `python -m scripts.quality FILE…` or `--project PROJECT --service SERVICE`."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from model import verify
from model.command_line import Parser
from model.drift import Drift
from model.errors import BundleError
from model.verify import VerifiedBundle
from scripts import places
from scripts.quality import sources
from scripts.quality.events import Joined, join
from scripts.quality.figures import Estimate, Figures, drifted, figures
from scripts.quality.sources import SourceError

PRINTED, NOTHING, REFUSED = 0, 1, 2
UNITS = {"m": "minutes", "h": "hours", "d": "days"}

HELP_END = """\
Feedback is joined with predictions by request id and row. Only predictions that the log tells can be joined:
set ROOKERY_EVENT_RATE=1 where truths come back. Intervals are at 95 %.

exit status: 0 figures were printed; 1 no truth could be joined with a prediction; 2 wrong usage, or events or bundle
cannot be read.

examples:
  python -m scripts.quality --project my-project --service rookery --since 7d
  python -m scripts.quality --json --bundle bundles/penguins/1dbd… log.jsonl
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; HELP_END has the exit statuses."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if bool(given.files) == bool(given.project):
        parser.error("give files, or --project and --service")
    try:
        bundle = None if given.bundle is None else verify.read(given.bundle)
        joined = join(_events(given))
    except (SourceError, BundleError) as error:
        print(f"error: {error}", file=sys.stderr)
        return REFUSED
    found = {digest: figures(outcomes) for digest, outcomes in sorted(joined.outcomes.items())}
    moved = None if bundle is None else _drift(bundle, joined)
    if given.json:
        print(json.dumps(_as_json(joined, found, moved), indent=2))
    else:
        print("\n".join(_lines(joined, found, moved)))
    return PRINTED if found else NOTHING


def _parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = Parser(
        prog="python -m scripts.quality",
        description="Join what the service predicted with what turned out, and say how good it was, for each bundle.",
        epilog=HELP_END,
    )
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE", help="JSON lines, as the service logs them")
    parser.add_argument("--project", help="read Cloud Logging of this project instead")
    places.add_service(parser)
    parser.add_argument("--since", type=_span, default="24h", help="how far back, such as 90m, 24h, 7d (default: 24h)")
    parser.add_argument("--endpoint", help="another address of Cloud Logging's API, such as an emulator's")
    parser.add_argument("--bundle", type=Path, help="judge the drift of the features against this bundle's reference")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _span(text: str) -> timedelta:
    """Parse a span of time."""
    found = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", text)
    if found is None:
        raise argparse.ArgumentTypeError("must be a span such as 90m, 24h or 7d")
    return timedelta(**{UNITS[found[2]]: int(found[1])})


def _events(given: argparse.Namespace) -> Iterator[Mapping[str, Any]]:
    """Return the events that were asked for."""
    if given.files:
        return sources.of_files(given.files)
    since = datetime.now(UTC) - given.since
    return sources.of_cloud_logging(given.project, given.service, since, given.endpoint)


def _drift(bundle: VerifiedBundle, joined: Joined) -> tuple[str, Drift]:
    """Judge what this bundle was asked."""
    own = [one for one in joined.predictions.values() if one.digest == bundle.digest]
    return bundle.digest, drifted(bundle.manifest, own)


def _as_json(joined: Joined, found: Mapping[str, Figures], moved: tuple[str, Drift] | None) -> dict[str, Any]:
    """Return what is printed, for programs."""
    bundles = {}
    for digest, one in found.items():
        confusion = [{"truth": t, "predicted": p, "rows": rows} for (t, p), rows in one.confusion.items()]
        bundles[digest] = {**asdict(one), "confusion": confusion}
    printed: dict[str, Any] = {
        "bundles": bundles,
        "predictions": len(joined.predictions),
        "unmatched": joined.unmatched,
        "skipped": joined.skipped,
    }
    if moved is not None:
        findings = [
            {"name": one.name, "rows": one.rows, "verdict": one.verdict, "psi": one.psi} for one in moved[1].findings
        ]
        printed["drift"] = {"digest": moved[0], "verdict": moved[1].verdict, "features": findings}
    return printed


def _lines(joined: Joined, found: Mapping[str, Figures], moved: tuple[str, Drift] | None) -> Iterator[str]:
    """Yield what is printed, for people."""
    for digest, one in found.items():
        yield f"{digest}  {one.rows} rows whose truth is known"
        yield f"  accuracy           {_shown(one.accuracy)}"
        yield f"  mean confidence    {one.confidence:.3f}"
        yield f"  calibration error  {_shown(one.calibration_error)}"
        yield f"  coverage           {_shown(one.coverage)}"
        for (truth, predicted), rows in one.confusion.items():
            if truth != predicted:
                yield f"  {truth} taken for {predicted}: {rows}"
    if moved is not None:
        yield f"{moved[0]}  features: {moved[1].verdict}"
        for finding in moved[1].findings:
            psi = "" if finding.psi is None else f"  PSI {finding.psi:.3f}"
            yield f"  {finding.name}  {finding.verdict}{psi}, {finding.rows} rows"
    lost = f"{joined.unmatched} truths without one, {joined.skipped} events not understood"
    yield f"{len(joined.predictions)} predictions; {lost}"


def _shown(one: Estimate) -> str:
    """Return an estimate for people."""
    return f"{one.value:.3f}  ({one.low:.3f} to {one.high:.3f})"


if __name__ == "__main__":
    sys.exit(main())
