"""Serves a bundle on this machine: `python -m service [BUNDLE] [--reload]`; the image calls Gunicorn itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import orjson

from model import manifest, verify
from model.bundle import resolve
from model.command_line import Parser
from model.errors import BundleError
from model.store import is_address
from service.config import SettingError, Settings

CONFIGURATION = Path(__file__).with_name("gunicorn_conf.py")


def main(arguments: Sequence[str] | None = None) -> int:  # noqa: RET503 - execv does not return
    """Print a line to try, then become Gunicorn; returns 2 if a setting or the bundle cannot be used."""
    parser = Parser(
        prog="python -m service",
        description="Serve a bundle with Gunicorn on this machine.",
        epilog="exit status: 2 if a setting or the bundle cannot be used, else Gunicorn's\n\n"
        "example: PORT=9000 python -m service bundles/iris",
    )
    parser.add_argument(
        "bundle", type=Path, nargs="?", help="bundle folder, or a folder with a file `current` (default: MODEL_URI)"
    )
    parser.add_argument("--reload", action="store_true", help="restart when the source changes")
    given = parser.parse_args(arguments)
    try:
        settings = Settings.from_env()
        uri = str(given.bundle) if given.bundle else settings.model_uri
        if is_address(uri):
            print(invitation(uri, settings), flush=True)
        else:
            uri = str(resolve(Path(uri)))
            bundle = verify.read(Path(uri), settings.model_digest, settings.public_keys)
            os.environ["MODEL_DIGEST"] = bundle.digest
            contract = bundle.manifest
            print(invitation(f"{contract.name} {contract.version}", settings), flush=True)
            print(curl_line(contract, settings), flush=True)
    except (SettingError, BundleError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    # a bundle named here wins over MODEL_URI, and what was read here is what is served; Gunicorn reads the environment
    os.environ["MODEL_URI"] = uri
    command = [sys.executable, "-m", "gunicorn", "-c", str(CONFIGURATION)]
    os.execv(sys.executable, command + (["--reload"] if given.reload else []))  # noqa: S606 - no shell is wanted


def address(settings: Settings) -> str:
    """Return where a person on this machine reaches the service."""
    host = "127.0.0.1" if settings.bind_host == "0.0.0.0" else settings.bind_host  # noqa: S104 - compared, not bound
    return f"http://{host}:{settings.port}"


def invitation(what: str, settings: Settings) -> str:
    """Return the line that says what is served, and what to open in a browser."""
    return f"Serving {what}: open {address(settings)}{'' if settings.page else '/docs'} in a browser; Ctrl-C stops it."


def curl_line(contract: manifest.Manifest, settings: Settings) -> str:
    """Return a shell command that gets a prediction for an ordinary instance."""
    body = orjson.dumps(manifest.example(contract)).decode()
    return (
        "Or call it from a second terminal:\n\n"
        f"  curl -H 'Content-Type: application/json' {address(settings)}/predict -d '{body}'\n"
    )


if __name__ == "__main__":
    sys.exit(main())
