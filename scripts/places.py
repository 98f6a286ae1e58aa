"""The arguments that say which project, region and service a command is for, worded once for all commands."""

from __future__ import annotations

import argparse


def add_project(parser: argparse.ArgumentParser, *, is_required: bool = False) -> None:
    """Take the project; a command that does not require it asks gcloud for its own."""
    parser.add_argument("--project", required=is_required, help="Google Cloud project" + _else("gcloud's", is_required))


def add_region(parser: argparse.ArgumentParser, *, is_required: bool = False) -> None:
    """Take the region; a command that does not require it asks gcloud for its own."""
    default = _else("gcloud's run/region, else us-central1", is_required)
    parser.add_argument("--region", required=is_required, help="region, such as europe-west1" + default)


def add_service(parser: argparse.ArgumentParser) -> None:
    """Take the name of the Cloud Run service."""
    parser.add_argument("--service", default="rookery", help="name of the service (default: %(default)s)")


def add_dry_run(parser: argparse.ArgumentParser) -> None:
    """Take the wish that nothing is done."""
    parser.add_argument("--dry-run", action="store_true", help="print the commands that would be run, run none")


def _else(default: str, is_required: bool) -> str:
    """Word what is meant when nothing is given."""
    return "" if is_required else f" (default: {default})"
