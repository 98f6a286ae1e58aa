"""What the text of a setting must look like, and what it becomes; a ValueError says what to write instead."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

from model.errors import KeyFileError
from model.signing import PublicKeys, load_keys


def integer(low: int, high: int) -> Callable[[str], int]:
    """Return a parser for a whole number between two bounds, both included."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"\d{1,18}", text) or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return parse


def boolean(text: str) -> bool:
    """Parse true or false."""
    if text.lower() not in ("true", "false"):
        raise ValueError("must be true or false")
    return text.lower() == "true"


def choice(*words: str) -> Callable[[str], str]:
    """Return a parser for one of a few words."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return text

    return parse


def seconds(low: float, high: float) -> Callable[[str], float]:
    """Return a parser of a time in seconds within a range."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise ValueError(f"must be a number of seconds, {low:g} to {high:g}")
        return value

    return parse


def ratio(text: str) -> float:
    """Parse a share, 0 to 1."""
    if not re.fullmatch(r"0?\.[0-9]{1,9}|[01](\.0{1,9})?", text):
        raise ValueError("must be a share from 0 to 1, such as 0.01")
    return float(text)


def receiver(text: str) -> str:
    """Parse the address that traces are sent to."""
    if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", text):
        raise ValueError("must be a collector's address such as http://127.0.0.1:4318/v1/traces")
    return text


def project(text: str) -> str:
    """Parse the id of a Google Cloud project."""
    if not re.fullmatch(r"([a-z0-9.-]{1,100}:)?[a-z][a-z0-9-]{4,28}[a-z0-9]", text):
        raise ValueError("must be a project's id, such as my-project")
    return text


def rate(text: str) -> str:
    """Parse a rate limit."""
    if not re.fullmatch(r"[1-9][0-9]{0,8}/(second|minute|hour)", text):
        raise ValueError("must be a number a second, minute or hour, such as 100/second")
    return text


def digest(text: str) -> str:
    """Parse a digest, with or without `sha256:`."""
    if not re.fullmatch(r"(sha256:)?[0-9a-f]{64}", text):
        raise ValueError("must be sha256: and 64 hex digits")
    return text if text.startswith("sha256:") else f"sha256:{text}"


def host(text: str) -> str:
    """Parse an address to listen on."""
    if not re.fullmatch(r"[0-9A-Za-z.:\[\]-]{1,255}", text):
        raise ValueError("must be an address such as 127.0.0.1 or 0.0.0.0")
    return text


def keys(text: str) -> PublicKeys:
    """Parse public keys: PEM text, or the file that holds it."""
    try:
        raw = text.encode() if text.lstrip().startswith("-----BEGIN") else Path(text).read_bytes()
        return load_keys(raw)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    except KeyFileError as error:
        raise ValueError(error.reason) from error


def origins(text: str) -> tuple[str, ...]:
    """Parse a comma-separated list of web origins."""
    origins = tuple(part.strip() for part in text.split(",") if part.strip())
    for origin in origins:
        if not re.fullmatch(r"https?://[^\s/,*]+", origin):
            raise ValueError("must be origins such as https://lab.example, separated by commas")
    return origins


PROTOCOLS = ("v2", "v1", "vertex", "mlflow", "sagemaker")


def protocols(text: str) -> tuple[str, ...]:
    """Parse a comma-separated list of protocols."""
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if text.strip() == "none":
        return ()
    if not names or any(name not in PROTOCOLS for name in names):
        raise ValueError(f"must be some of {', '.join(PROTOCOLS)}, separated by commas, or none")
    return names


def route(text: str) -> str:
    """Parse the path of a route."""
    if not re.fullmatch(r"/[A-Za-z0-9._~:@/-]{1,255}", text):
        raise ValueError("must be a path such as /v1/endpoints/1:predict")
    return text
