"""The one door to the environment: every setting, its type, unit, default and meaning."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from model.errors import BundleError
from model.signing import PublicKeys
from model.store import is_address, parse
from service import slips, values

DEFAULT_CACHE = Path(tempfile.gettempdir()) / f"rookery-{os.getuid()}"
PREFIX = "ROOKERY_"

# Kubernetes injects these for a service called rookery
KUBERNETES = re.compile(r"ROOKERY_(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)?)")


class SettingError(Exception):
    """A setting cannot be used; the text is one line that names it and says what to write."""


def _setting(env: str, default: Any, parse: Callable[[str], Any], doc: str) -> Any:
    """Declare one setting."""
    return field(default=default, metadata={"env": env, "parse": parse, "doc": doc})


@dataclass(frozen=True)
class Settings:
    """Everything that can be set from outside."""

    port: int = _setting("PORT", 8080, values.integer(1, 65535), "TCP port to listen on")
    model_uri: str = _setting(
        "MODEL_URI", "bundle", str, "bundle folder, read in place, or `gs://bucket/prefix/<digest>/`"
    )
    model_digest: str | None = _setting(
        "MODEL_DIGEST", None, values.digest, "digest the bundle must have; anything else is refused"
    )
    fallback_uri: str = _setting(
        "MODEL_FALLBACK_URI", "", str, "bundle that may stand in if the pinned one cannot be served"
    )
    fallback_digest: str | None = _setting(
        "MODEL_FALLBACK_DIGEST", None, values.digest, "digest the fallback must have"
    )
    min_serial: int = _setting(
        "MODEL_MIN_SERIAL", 0, values.integer(0, 10**9), "bundles with a lower serial are refused"
    )
    model_contract: str | None = _setting(
        "ROOKERY_MODEL_CONTRACT",
        None,
        values.digest,
        "what the pinned bundle takes and answers, for when it cannot be read",
    )
    public_keys: PublicKeys | None = _setting(
        "MODEL_PUBLIC_KEY", None, values.keys, "PEM public key, or a file of them; with it every bundle must be signed"
    )
    cache_dir: Path = _setting(
        "MODEL_CACHE_DIR", DEFAULT_CACHE, Path, "folder for downloaded bundles and the last known good one"
    )
    allow_fallback: bool = _setting(
        "ALLOW_FALLBACK", True, values.boolean, "whether another bundle may stand in at all"
    )
    baked_bundle: Path = _setting(
        "ROOKERY_BAKED_BUNDLE",
        Path("bundle"),
        Path,
        "bundle folder in the image: used if it is the pinned one, else last",
    )
    load_seconds: int = _setting(
        "ROOKERY_LOAD_SECONDS", 8, values.integer(1, 300), "seconds in which a bundle must have arrived from the bucket"
    )
    retry_seconds: int = _setting(
        "ROOKERY_RETRY_SECONDS",
        15,
        values.integer(1, 3600),
        "seconds after which an instance without a model tries again to load one",
    )
    quarantine_seconds: int = _setting(
        "ROOKERY_QUARANTINE_SECONDS",
        300,
        values.integer(1, 86_400),
        "seconds after which a bundle that crashed three times is tried again, if nothing stands in for it",
    )
    engine: str | None = _setting(
        "ENGINE",
        None,
        values.choice("tables", "onnx", "xgboost"),
        "engine to serve with instead of the bundle's own choice",
    )
    fast_path: bool = _setting(
        "FAST_PATH",
        True,
        values.boolean,
        "short door and fast accept; `false` serves through Flask and marshmallow alone",
    )
    max_instances: int = _setting("MAX_INSTANCES", 10_000, values.integer(1, 1_000_000), "rows in one batch")
    max_body_bytes: int = _setting(
        "MAX_BODY_BYTES", 8 << 20, values.integer(1024, 1 << 30), "bytes of one request body"
    )
    body_memory_bytes: int | None = _setting(
        "ROOKERY_BODY_MEMORY_BYTES",
        None,
        values.integer(1 << 20, 1 << 40),
        "bytes that all request bodies of one worker may hold together; beyond it 503; if not set, a quarter of the"
        " memory limit (512 MiB where there is none), shared by the workers",
    )
    wait_seconds: float = _setting(
        "ROOKERY_WAIT_SECONDS", 0.25, values.seconds(0.01, 60), "longest a request may wait for its turn; then 503"
    )
    most_waiting: int = _setting("ROOKERY_MAX_WAITING", 512, values.integer(1, 100_000), "requests that may wait")
    rate_limit: str | None = _setting(
        "ROOKERY_RATE_LIMIT",
        None,
        values.rate,
        "requests of one caller, such as `100/second`; more are refused with 429",
    )
    trusted_proxies: int = _setting(
        "ROOKERY_TRUSTED_PROXIES",
        0,
        values.integer(0, 10),
        "addresses at the end of `X-Forwarded-For` that proxies in front have written, for `ROOKERY_RATE_LIMIT`; "
        "`0` counts by the connection's address, 1 is right on Cloud Run",
    )
    bind_host: str = _setting(
        "ROOKERY_BIND_HOST", "127.0.0.1", values.host, "address to listen on; the image sets 0.0.0.0"
    )
    ops_port: int | None = _setting(
        "ROOKERY_OPS_PORT",
        None,
        values.integer(1, 65535),
        "TCP port of its own for `/metrics`, `/model/drift` and `/feedback`, which are nowhere else then",
    )
    workers: int = _setting("ROOKERY_WORKERS", 1, values.integer(1, 64), "Gunicorn worker processes, one core each")
    header_seconds: int = _setting(
        "ROOKERY_HEADER_SECONDS", 5, values.integer(1, 300), "seconds in which the headers of a request must arrive"
    )
    body_seconds: int = _setting(
        "ROOKERY_BODY_SECONDS",
        8,
        values.integer(1, 300),
        "seconds a body may stand still; over each such span it must move at `ROOKERY_MIN_BYTES_PER_SECOND`",
    )
    idle_seconds: int = _setting(
        "ROOKERY_IDLE_SECONDS", 5, values.integer(1, 3600), "seconds a connection is kept open between two requests"
    )
    write_seconds: int = _setting(
        "ROOKERY_WRITE_SECONDS",
        7,
        values.integer(1, 300),
        "span in which a client must read its answer at `ROOKERY_MIN_BYTES_PER_SECOND`, in seconds",
    )
    min_bytes_per_second: int = _setting(
        "ROOKERY_MIN_BYTES_PER_SECOND", 1024, values.integer(1, 1 << 30), "slowest that a body or an answer may move"
    )
    max_connections: int | None = _setting(
        "ROOKERY_MAX_CONNECTIONS",
        None,
        values.integer(1, 1_000_000),
        "connections of one worker at a time; 64 fewer than it may have descriptors, and at most 8192, if not set",
    )
    lame_duck_seconds: int = _setting(
        "ROOKERY_LAME_DUCK_SECONDS",
        1,
        values.integer(0, 5),
        "seconds after SIGTERM in which connections are still taken while `/health/ready` says 503",
    )
    predict_seconds: int = _setting(
        "ROOKERY_PREDICT_SECONDS",
        10,
        values.integer(1, 300),
        "seconds after which a computation that does not end is ended",
    )
    protocols: tuple[str, ...] = _setting(
        "ROOKERY_PROTOCOLS",
        values.PROTOCOLS,
        values.protocols,
        "protocols spoken beside `POST /predict`, separated by commas; `none` for none",
    )
    positional: bool = _setting(
        "ROOKERY_POSITIONAL",
        True,
        values.boolean,
        "whether the protocols take rows whose values only their position names; `false` refuses them",
    )
    vertex_port: int | None = _setting(
        "AIP_HTTP_PORT", None, values.integer(1, 65535), "set by Vertex AI: the port to listen on, instead of `PORT`"
    )
    vertex_health_route: str = _setting("AIP_HEALTH_ROUTE", "", values.route, "set by Vertex AI: the path it probes")
    vertex_predict_route: str = _setting(
        "AIP_PREDICT_ROUTE", "", values.route, "set by Vertex AI: the path it sends predictions to"
    )
    vertex_storage_uri: str = _setting(
        "AIP_STORAGE_URI", "", str, "set by Vertex AI: the model's folder, used where `MODEL_URI` is not set"
    )
    vertex_endpoint: str = _setting(
        "AIP_ENDPOINT_ID", "", str, "set by Vertex AI where a model is deployed; shown by `/version`"
    )
    metrics: bool = _setting(
        "ROOKERY_METRICS", True, values.boolean, "whether calls are counted; `false` shows what counting costs"
    )
    log_level: str = _setting(
        "ROOKERY_LOG_LEVEL", "info", values.choice("debug", "info", "warning", "error"), "least severity that is logged"
    )
    log_format: str = _setting(
        "ROOKERY_LOG_FORMAT",
        "auto",
        values.choice("auto", "json", "text"),
        "form of a line in the log: `json`, `text` for a person, or `auto` for text on a terminal and JSON elsewhere",
    )
    slow_seconds: float = _setting(
        "ROOKERY_SLOW_SECONDS",
        0.5,
        values.seconds(0, 3600),
        "a request that takes so long has a line in the log, in seconds",
    )
    event_rate: float = _setting(
        "ROOKERY_EVENT_RATE",
        0.01,
        values.ratio,
        "share of the predictions that the log tells, 0 to 1; never their values",
    )
    feedback: bool = _setting(
        "ROOKERY_FEEDBACK", False, values.boolean, "whether `POST /feedback` takes what turned out to be true"
    )
    trace_endpoint: str = _setting(
        "ROOKERY_TRACE_ENDPOINT",
        "",
        values.receiver,
        "where spans are sent by OTLP over HTTP; without it nothing is traced",
    )
    trace_auth: str = _setting(
        "ROOKERY_TRACE_AUTH",
        "none",
        values.choice("none", "google"),
        "`google` sends an access token with the spans, as Cloud Trace wants it",
    )
    trace_rate: float = _setting(
        "ROOKERY_TRACE_RATE", 0.01, values.ratio, "share of requests traced where the caller does not decide, 0 to 1"
    )
    project: str = _setting(
        "ROOKERY_PROJECT", "", values.project, "Google Cloud project of the traces, so that the log links to them"
    )
    page: bool = _setting("ROOKERY_PAGE", True, values.boolean, "whether `/` shows the page for people")
    cors_origins: tuple[str, ...] = _setting(
        "ROOKERY_CORS_ORIGINS",
        (),
        values.origins,
        "web origins that may call from a browser, separated by commas; none",
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
            SettingError: a value cannot be used, or a name is not known and begins with `ROOKERY_` or is nearly one.
        """
        given = os.environ if env is None else env
        known = {f.metadata["env"]: f for f in fields(cls)}
        for name in sorted(given):
            if name.startswith(PREFIX) and name not in known and not KUBERNETES.fullmatch(name):
                raise SettingError(slips.unknown(name, list(known), PREFIX))
            meant = None if name in known or KUBERNETES.fullmatch(name) else slips.nearly(name, list(known))
            if meant is not None:
                raise SettingError(f"{name} is not a setting; did you mean {meant}?")
        found: dict[str, Any] = {}
        for name, declared in known.items():
            text = given.get(name, "")
            if text:
                try:
                    found[declared.name] = declared.metadata["parse"](text)
                except ValueError as error:
                    raise SettingError(f"{name}={text[:40]!r} {error}") from error
        # what the platform says about itself wins over the image, and what the user says over the platform
        found["port"] = found.pop("vertex_port", None) or found.get("port", cls.port)
        found["model_uri"] = found.get("model_uri") or found.get("vertex_storage_uri") or cls.model_uri
        found.pop("vertex_storage_uri", None)
        settings = cls(**found)
        settings._refuse_unpinned("MODEL_URI", settings.model_uri, "MODEL_DIGEST", settings.model_digest)
        settings._refuse_unpinned(
            "MODEL_FALLBACK_URI", settings.fallback_uri, "MODEL_FALLBACK_DIGEST", settings.fallback_digest
        )
        settings._refuse_open_token()
        if settings.body_memory_bytes is not None and settings.body_memory_bytes < 2 * settings.max_body_bytes:
            raise SettingError(
                f"ROOKERY_BODY_MEMORY_BYTES={settings.body_memory_bytes} is less than twice MAX_BODY_BYTES, so the"
                f" largest bodies would never be taken; set at least {2 * settings.max_body_bytes}"
            )
        if settings.ops_port == settings.port:
            raise SettingError(f"ROOKERY_OPS_PORT={settings.port} is the port of the service; name another one")
        return settings

    def _refuse_open_token(self) -> None:
        """Refuse to send an access token over a connection that others can read."""
        is_open = re.match(r"http://(?!(127\.0\.0\.1|localhost|\[::1\])[:/])", self.trace_endpoint + "/")
        if self.trace_auth == "google" and is_open:
            raise SettingError("ROOKERY_TRACE_AUTH is google, so ROOKERY_TRACE_ENDPOINT must begin with https://")

    def _refuse_unpinned(self, name: str, uri: str, digest_name: str, digest: str | None) -> None:
        """Refuse a bucket address without a pin and without a key: whoever can write there would choose the answers."""
        if not is_address(uri):
            return
        try:
            named = parse(uri).digest
        except BundleError as error:
            raise SettingError(f"{name}: {error.reason}") from error
        if digest is None and self.public_keys is None:
            line = f"{digest_name}={named or 'sha256:<64 hex>'}"
            raise SettingError(f"{name} is in a bucket, but neither pinned nor signed; add {line} or MODEL_PUBLIC_KEY")
