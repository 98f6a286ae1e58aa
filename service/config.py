"""The one door to the environment: every setting, its type, unit, default and meaning."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

PREFIX = "ROOKERY_"

# Kubernetes injects these for a service called rookery
KUBERNETES = re.compile(r"ROOKERY_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)?)")


class SettingError(Exception):
    """A setting cannot be used; the text is one line that names it and says what to write."""


def _setting(env: str, default: Any, parse: Callable[[str], Any], doc: str) -> Any:
    """Declare one setting."""
    return field(default=default, metadata={"env": env, "parse": parse, "doc": doc})


def _integer(low: int, high: int) -> Callable[[str], int]:
    """Return a parser for a whole number between two bounds, both included."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"\d{1,18}", text) or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return parse


def _boolean(text: str) -> bool:
    """Parse true or false."""
    if text.lower() not in ("true", "false"):
        raise ValueError("must be true or false")
    return text.lower() == "true"


def _choice(*values: str) -> Callable[[str], str]:
    """Return a parser for one of a few words."""

    def parse(text: str) -> str:
        if text not in values:
            raise ValueError(f"must be one of {', '.join(values)}")
        return text

    return parse


def _digest(text: str) -> str:
    """Parse a digest, with or without `sha256:`."""
    if not re.fullmatch(r"(sha256:)?[0-9a-f]{64}", text):
        raise ValueError("must be sha256: and 64 hex digits")
    return text if text.startswith("sha256:") else f"sha256:{text}"


def _host(text: str) -> str:
    """Parse an address to listen on."""
    if not re.fullmatch(r"[0-9A-Za-z.:\[\]-]{1,255}", text):
        raise ValueError("must be an address such as 127.0.0.1 or 0.0.0.0")
    return text


def _origins(text: str) -> tuple[str, ...]:
    """Parse a comma-separated list of web origins."""
    origins = tuple(part.strip() for part in text.split(",") if part.strip())
    for origin in origins:
        if not re.fullmatch(r"https?://[^\s/,*]+", origin):
            raise ValueError("must be origins such as https://lab.example, separated by commas")
    return origins


@dataclass(frozen=True)
class Settings:
    """Everything that can be set from outside."""

    port: int = _setting("PORT", 8080, _integer(1, 65535), "TCP port to listen on")
    model_uri: Path = _setting("MODEL_URI", Path("bundle"), Path, "bundle folder, read in place")
    model_digest: str | None = _setting(
        "MODEL_DIGEST", None, _digest, "digest the bundle must have; anything else is refused"
    )
    engine: str | None = _setting(
        "ENGINE", None, _choice("onnx", "xgboost"), "engine to serve with instead of the bundle's own choice"
    )
    fast_path: bool = _setting(
        "FAST_PATH", True, _boolean, "short door and fast accept; `false` serves through Flask and marshmallow alone"
    )
    max_instances: int = _setting("MAX_INSTANCES", 10_000, _integer(1, 1_000_000), "rows in one batch")
    max_body_bytes: int = _setting("MAX_BODY_BYTES", 8 << 20, _integer(1024, 1 << 30), "bytes of one request body")
    bind_host: str = _setting("ROOKERY_BIND_HOST", "127.0.0.1", _host, "address to listen on; the image sets 0.0.0.0")
    workers: int = _setting("ROOKERY_WORKERS", 1, _integer(1, 64), "Gunicorn worker processes, one core each")
    log_level: str = _setting(
        "ROOKERY_LOG_LEVEL", "info", _choice("debug", "info", "warning", "error"), "least severity that is logged"
    )
    cors_origins: tuple[str, ...] = _setting(
        "ROOKERY_CORS_ORIGINS", (), _origins, "web origins that may call from a browser, separated by commas; none"
    )
    commit: str = _setting("ROOKERY_COMMIT", "unknown", str, "source commit, shown by `/version`; the image sets it")
    build_time: str = _setting(
        "ROOKERY_BUILD_TIME", "unknown", str, "build time, shown by `/version`; the image sets it"
    )

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Read the settings.

        Args:
            env: the process's environment if None; an empty value counts as not set.

        Raises:
            SettingError: a value cannot be used, or a `ROOKERY_…` name is not known.
        """
        given = os.environ if env is None else env
        known = {f.metadata["env"]: f for f in fields(cls)}
        for name in sorted(given):
            if name.startswith(PREFIX) and name not in known and not KUBERNETES.fullmatch(name):
                raise SettingError(_unknown(name, list(known)))
        values = {}
        for name, declared in known.items():
            text = given.get(name, "")
            if text:
                try:
                    values[declared.name] = declared.metadata["parse"](text)
                except ValueError as error:
                    raise SettingError(f"{name}={text[:40]!r} {error}") from error
        return cls(**values)


def settings_table() -> str:
    """Return the settings as a Markdown table, for DEPLOYMENT.md."""
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for declared in fields(Settings):
        default = declared.default
        shown = "" if default in (None, ()) else f"`{'true' if default is True else default}`"
        lines.append(f"| `{declared.metadata['env']}` | {shown} | {declared.metadata['doc']} |")
    return "\n".join(lines) + "\n"


def _unknown(name: str, known: list[str]) -> str:
    """Name the setting that was probably meant."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(k for k in known if k.startswith(PREFIX))}"
    return f"{name} is not a setting; {hint}"
