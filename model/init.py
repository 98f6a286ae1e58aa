"""Writes a spec for an unknown CSV: `python -m model.init data.csv --label outcome`."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model import dataset, spec
from model.command_line import Parser
from model.draft import Ask, Draft, draft, label_notes, to_toml, with_units
from model.errors import ModelError, SpecError
from model.spec import NAME

HELP_END = """\
Types and ranges are guessed from the data, units from the ends of the names (body_mass_g); on a terminal it asks about
each unit. What it guessed is marked in the spec: read it, and say what the field knows and the data cannot.

exit status: 0 written, 2 the CSV cannot be trained on as it is, or wrong usage; then nothing is written

examples:
  python -m model.init machines.csv --label failed --drop serial_number
  python -m model.init machines.csv --unit pressure=bar --unit age=h --out specs/machines.toml --json
"""


def write(path: Path, text: str, *, force: bool) -> None:
    """Write the spec, once training could begin with it.

    Raises:
        SpecError: the file exists, or what was guessed is not a spec.
        DataError: the data cannot be trained on.
    """
    if path.exists() and not force:
        raise SpecError(str(path), None, "exists; choose another with --out, or write over it with --force")
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, scratch = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        dataset.load(spec.load(Path(scratch)))
        os.chmod(scratch, 0o644)  # noqa: PTH101 - mkstemp's own is for one user
        os.replace(scratch, path)
    finally:
        Path(scratch).unlink(missing_ok=True)


def _told(found: Draft, path: Path) -> str:
    """Return what a person wants to know: every guess on one line, and what to do next."""
    rows = [
        f"{path}: predicts {found.label} ({', '.join(list(found.classes)[:6])}) from {len(found.features)} features"
    ]
    rows += [f"  {note}" for note in label_notes(found)]
    for column in found.features:
        what = (
            ", ".join(column.values[:4])
            if column.seen is None
            else f"{column.seen[0]:g} to {column.seen[1]:g} {column.unit}"
        )
        missing = f"; read as missing: {column.missing_text}" if column.nulls else ""
        rows.append(f"  {column.name:24} {column.dtype:9} {what.strip()}{missing}")
    rows += [f"  left out: {name}, {reason}" for name, reason in found.left_out.items()]
    unknown = [column.name for column in found.features if column.seen is not None and not column.unit]
    if unknown:
        rows.append(f"  without a unit: {', '.join(unknown)}")
    return "\n".join([*rows, f"next: read {path}, then make run SPEC={path}"])


def _as_json(found: Draft, path: Path) -> str:
    """Return the same for a script."""
    features: list[dict[str, Any]] = [
        {
            "name": column.name,
            "dtype": column.dtype,
            "unit": column.unit or None,
            "seen": column.seen,
            "values": column.values or None,
            "missing": column.nulls,
            "missing_words": column.missing,
        }
        for column in found.features
    ]
    whole = {
        "spec": str(path),
        "name": found.name,
        "label": found.label,
        "classes": list(found.classes),
        "unlabelled": found.unlabelled,
        "doubtful_classes": found.doubtful_classes,
    }
    return json.dumps({**whole, "features": features, "left_out": found.left_out})


def _unit(text: str) -> tuple[str, str]:
    """Parse `column=unit`."""
    name, mark, unit = text.partition("=")
    if not mark or not name or not unit:
        raise argparse.ArgumentTypeError(f"{text!r} must be column=unit, such as pressure=bar")
    return name, unit


def _parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = Parser(
        prog="python -m model.init",
        description="Write a spec for a CSV: guess its types and ranges, ask for units.",
        epilog=HELP_END,
    )
    parser.add_argument("data", type=Path, help="UTF-8 CSV with a header")
    parser.add_argument(
        "--label", help="the column to predict (default: one called label, class, target …, else the last)"
    )
    parser.add_argument(
        "--label-null",
        action="append",
        default=[],
        type=str.strip,
        metavar="WORD",
        help="stands for a missing label, as the empty cell does; may be repeated",
    )
    parser.add_argument("--name", help="of the model (default: the file's)")
    parser.add_argument("--out", type=Path, help="the spec to write (default: beside the CSV, with .toml)")
    parser.add_argument(
        "--unit", action="append", default=[], type=_unit, metavar="COLUMN=UNIT", help="may be repeated"
    )
    parser.add_argument("--drop", action="append", default=[], metavar="COLUMN", help="leave it out; may be repeated")
    parser.add_argument("--yes", action="store_true", help="ask nothing, also on a terminal")
    parser.add_argument("--force", action="store_true", help="write over an existing spec")
    parser.add_argument("--json", action="store_true", help="print what was guessed as JSON; asks nothing")
    return parser


def main(arguments: Sequence[str] | None = None, ask: Ask | None = None) -> int:
    """Run the command; returns the exit status, see `HELP_END`.

    Args:
        arguments: of the command line.
        ask: how to ask for a unit; None asks on a terminal and nowhere else.
    """
    given = _parser().parse_args(arguments)
    if ask is None and sys.stdin.isatty() and not given.yes and not given.json:
        ask = input
    name = given.name or re.sub(r"[^a-z0-9_-]+", "-", given.data.stem.lower()).strip("-_0123456789")
    out = given.out or given.data.with_suffix(".toml")
    try:
        if not NAME.fullmatch(name):
            raise SpecError("--name", None, f"{name!r} must be lower-case letters, digits, `-` and `_`")
        found = with_units(draft(given.data, name, given.label, given.drop, given.label_null), dict(given.unit), ask)
        data = os.path.relpath(given.data, out.parent)
        write(out, to_toml(found, data), force=given.force)
    except ModelError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename or out}: {error.strerror}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, EOFError):
        print("error: interrupted, nothing was written", file=sys.stderr)
        return 130
    print(_as_json(found, out) if given.json else _told(found, out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
