"""Every setting is parsed, and a wrong one is refused in one line that names it."""

from __future__ import annotations

import dataclasses
import random
import runpy
from pathlib import Path

import pytest

from model import sign
from service.config import SettingError, Settings
from tests.house.generated import settings_table

HEX = "0123456789abcdef" * 4

GOOD = {
    ("PORT", "1"): ("port", 1),
    ("PORT", "65535"): ("port", 65535),
    ("MODEL_URI", "bundles/penguins/ab"): ("model_uri", "bundles/penguins/ab"),
    ("MODEL_DIGEST", HEX): ("model_digest", f"sha256:{HEX}"),
    ("MODEL_DIGEST", f"sha256:{HEX}"): ("model_digest", f"sha256:{HEX}"),
    ("MODEL_FALLBACK_URI", "bundles/penguins/cd"): ("fallback_uri", "bundles/penguins/cd"),
    ("MODEL_FALLBACK_DIGEST", HEX): ("fallback_digest", f"sha256:{HEX}"),
    ("MODEL_MIN_SERIAL", "7"): ("min_serial", 7),
    ("ROOKERY_MODEL_CONTRACT", f"sha256:{HEX}"): ("model_contract", f"sha256:{HEX}"),
    ("MODEL_CACHE_DIR", "/cache/models"): ("cache_dir", Path("/cache/models")),
    ("ALLOW_FALLBACK", "false"): ("allow_fallback", False),
    ("ROOKERY_BAKED_BUNDLE", "/app/bundle"): ("baked_bundle", Path("/app/bundle")),
    ("ROOKERY_LOAD_SECONDS", "300"): ("load_seconds", 300),
    ("ROOKERY_RETRY_SECONDS", "60"): ("retry_seconds", 60),
    ("ROOKERY_QUARANTINE_SECONDS", "600"): ("quarantine_seconds", 600),
    ("ENGINE", "onnx"): ("engine", "onnx"),
    ("ENGINE", "xgboost"): ("engine", "xgboost"),
    ("FAST_PATH", "false"): ("fast_path", False),
    ("FAST_PATH", "True"): ("fast_path", True),
    ("ROOKERY_METRICS", "false"): ("metrics", False),
    ("MAX_INSTANCES", "1"): ("max_instances", 1),
    ("MAX_BODY_BYTES", "1024"): ("max_body_bytes", 1024),
    ("ROOKERY_BIND_HOST", "0.0.0.0"): ("bind_host", "0.0.0.0"),
    ("ROOKERY_BIND_HOST", "[::1]"): ("bind_host", "[::1]"),
    ("ROOKERY_WORKERS", "64"): ("workers", 64),
    ("ROOKERY_PREDICT_SECONDS", "300"): ("predict_seconds", 300),
    ("ROOKERY_PROTOCOLS", "v2, mlflow"): ("protocols", ("v2", "mlflow")),
    ("ROOKERY_PROTOCOLS", "none"): ("protocols", ()),
    ("ROOKERY_POSITIONAL", "false"): ("positional", False),
    ("AIP_HTTP_PORT", "9000"): ("port", 9000),
    ("AIP_HEALTH_ROUTE", "/v1/endpoints/1"): ("vertex_health_route", "/v1/endpoints/1"),
    ("AIP_PREDICT_ROUTE", "/v1/endpoints/1:predict"): ("vertex_predict_route", "/v1/endpoints/1:predict"),
    ("AIP_STORAGE_URI", "bundles/penguins/ab"): ("model_uri", "bundles/penguins/ab"),
    ("AIP_ENDPOINT_ID", "12"): ("vertex_endpoint", "12"),
    ("ROOKERY_LOG_FORMAT", "text"): ("log_format", "text"),
    ("ROOKERY_LOG_LEVEL", "warning"): ("log_level", "warning"),
    ("ROOKERY_PAGE", "false"): ("page", False),
    ("ROOKERY_CORS_ORIGINS", "https://lab.example"): ("cors_origins", ("https://lab.example",)),
    ("ROOKERY_CORS_ORIGINS", " https://a.example:8443 , http://localhost:3000,"): (
        "cors_origins",
        ("https://a.example:8443", "http://localhost:3000"),
    ),
    ("ENGINE", "tables"): ("engine", "tables"),
    ("ROOKERY_WAIT_SECONDS", "0.5"): ("wait_seconds", 0.5),
    ("ROOKERY_BODY_MEMORY_BYTES", "16777216"): ("body_memory_bytes", 16 << 20),
    ("ROOKERY_MAX_WAITING", "1"): ("most_waiting", 1),
    ("ROOKERY_RATE_LIMIT", "100/second"): ("rate_limit", "100/second"),
    ("ROOKERY_TRUSTED_PROXIES", "2"): ("trusted_proxies", 2),
    ("ROOKERY_HEADER_SECONDS", "300"): ("header_seconds", 300),
    ("ROOKERY_BODY_SECONDS", "1"): ("body_seconds", 1),
    ("ROOKERY_IDLE_SECONDS", "620"): ("idle_seconds", 620),
    ("ROOKERY_WRITE_SECONDS", "60"): ("write_seconds", 60),
    ("ROOKERY_MIN_BYTES_PER_SECOND", "1"): ("min_bytes_per_second", 1),
    ("ROOKERY_MAX_CONNECTIONS", "100"): ("max_connections", 100),
    ("ROOKERY_OPS_PORT", "9090"): ("ops_port", 9090),
    ("ROOKERY_LAME_DUCK_SECONDS", "0"): ("lame_duck_seconds", 0),
    ("ROOKERY_SLOW_SECONDS", "0.1"): ("slow_seconds", 0.1),
    ("ROOKERY_EVENT_RATE", "1"): ("event_rate", 1.0),
    ("ROOKERY_EVENT_RATE", "1.0"): ("event_rate", 1.0),
    ("ROOKERY_EVENT_RATE", "0"): ("event_rate", 0.0),
    ("ROOKERY_EVENT_RATE", ".05"): ("event_rate", 0.05),
    ("ROOKERY_FEEDBACK", "true"): ("feedback", True),
    ("ROOKERY_TRACE_ENDPOINT", "http://[::1]:4318/v1/traces"): ("trace_endpoint", "http://[::1]:4318/v1/traces"),
    ("ROOKERY_TRACE_ENDPOINT", "https://telemetry.googleapis.com/v1/traces"): (
        "trace_endpoint",
        "https://telemetry.googleapis.com/v1/traces",
    ),
    ("ROOKERY_TRACE_RATE", "0.5"): ("trace_rate", 0.5),
    ("ROOKERY_TRACE_AUTH", "google"): ("trace_auth", "google"),
    ("ROOKERY_PROJECT", "my-project-1"): ("project", "my-project-1"),
    ("ROOKERY_PROJECT", "example.com:my-project"): ("project", "example.com:my-project"),
    ("ROOKERY_COMMIT", "9a931e0"): ("commit", "9a931e0"),
    ("ROOKERY_BUILD_TIME", "2026-01-01T00:00:00Z"): ("build_time", "2026-01-01T00:00:00Z"),
}

WRONG = {
    "PORT": ["0", "65536", "-1", "8080 ", "80.0", "http", "1" * 5000, "8080\n"],
    "MODEL_DIGEST": ["ab", HEX.upper(), f"sha512:{HEX}", f"{HEX}0", f"{HEX}\n"],
    "MODEL_FALLBACK_DIGEST": ["ab", HEX.upper(), f"sha512:{HEX}"],
    "MODEL_MIN_SERIAL": ["-1", "1.0", "v2", str(10**9 + 1)],
    "ROOKERY_MODEL_CONTRACT": ["ab", "penguins"],
    "ALLOW_FALLBACK": ["0", "no"],
    "ROOKERY_LOAD_SECONDS": ["0", "301", "8s", "0.5"],
    "ROOKERY_RETRY_SECONDS": ["0", "3601", "15s"],
    "ROOKERY_QUARANTINE_SECONDS": ["0", "86401", "5m"],
    "ROOKERY_PROTOCOLS": ["v3", ",", "v2 v1"],
    "ROOKERY_POSITIONAL": ["yes"],
    "AIP_HTTP_PORT": ["0", "x"],
    "AIP_HEALTH_ROUTE": ["health", "/<x>"],
    "AIP_PREDICT_ROUTE": ["predict", "/a b"],
    "ROOKERY_PREDICT_SECONDS": ["0", "301", "10s"],
    "ENGINE": ["onnxruntime", "ONNX", "none"],
    "ROOKERY_METRICS": ["1", "on"],
    "FAST_PATH": ["1", "yes", "off", " true"],
    "MAX_INSTANCES": ["0", "1000001", "ten", "1e4", "10_000"],
    "MAX_BODY_BYTES": ["1023", "8MB", str((1 << 30) + 1)],
    "ROOKERY_BIND_HOST": ["0.0.0.0:80 ", "a b", "unix:/x\n", "x" * 256],
    "ROOKERY_WORKERS": ["0", "65", "auto"],
    "ROOKERY_WAIT_SECONDS": ["0", "61", "nan", "250ms", "inf"],
    "ROOKERY_BODY_MEMORY_BYTES": ["0", "1048575", "128MiB", str((1 << 40) + 1)],
    "ROOKERY_MAX_WAITING": ["0", "-1", "many"],
    "ROOKERY_RATE_LIMIT": ["100", "0/second", "100/day", "100 per second", "-1/second"],
    "ROOKERY_TRUSTED_PROXIES": ["-1", "11", "1.0", "all", "10.0.0.1"],
    "ROOKERY_HEADER_SECONDS": ["0", "301", "5s"],
    "ROOKERY_BODY_SECONDS": ["0", "301", "2.5"],
    "ROOKERY_IDLE_SECONDS": ["0", "3601"],
    "ROOKERY_WRITE_SECONDS": ["0", "301"],
    "ROOKERY_MIN_BYTES_PER_SECOND": ["0", "1k"],
    "ROOKERY_MAX_CONNECTIONS": ["0", "-1", "auto"],
    "ROOKERY_LAME_DUCK_SECONDS": ["6", "0.5"],
    "ROOKERY_LOG_FORMAT": ["TEXT", "plain"],
    "ROOKERY_LOG_LEVEL": ["INFO", "trace"],
    "ROOKERY_SLOW_SECONDS": ["-1", "3601", "fast"],
    "ROOKERY_OPS_PORT": ["0", "65536", "tcp://10.0.0.1:9090"],
    "ROOKERY_EVENT_RATE": ["1.1", "-0.1", "1%", "nan", "2", "1e-3", "٠"],
    "ROOKERY_FEEDBACK": ["1", "on"],
    "ROOKERY_TRACE_ENDPOINT": [
        "127.0.0.1:4318",
        "grpc://a:4317",
        "https://",
        "http://user@a/",
        "http://a/ b",
        "http://a/?b",
    ],
    "ROOKERY_TRACE_AUTH": ["gcp", "token"],
    "ROOKERY_TRACE_RATE": ["1.1", "always"],
    "ROOKERY_PROJECT": ["My-Project", "123456", "a/b", "short", "ends-in-"],
    "ROOKERY_PAGE": ["yes", "1", "off"],
    "ROOKERY_CORS_ORIGINS": ["*", "lab.example", "https://lab.example/", "https://*.example", "null", "https://a b"],
}

DEFAULTS = Settings()


@pytest.mark.parametrize(("given", "expected"), GOOD.items(), ids=lambda pair: f"{pair[0]}={str(pair[1])[:20]}")
def test_a_setting_is_parsed_and_the_others_keep_their_defaults(given, expected):
    name, text = given
    assert dataclasses.replace(DEFAULTS, **{expected[0]: expected[1]}) == Settings.from_env({name: text})


def test_every_setting_has_a_test():
    names = {declared.metadata["env"] for declared in dataclasses.fields(Settings)}
    # keys have tests of their own below
    assert names - {"MODEL_PUBLIC_KEY"} == {name for name, _ in GOOD}
    assert names - set(WRONG) == {
        "MODEL_URI",
        "MODEL_FALLBACK_URI",
        "MODEL_PUBLIC_KEY",
        "AIP_STORAGE_URI",
        "AIP_ENDPOINT_ID",
        "MODEL_CACHE_DIR",
        "ROOKERY_BAKED_BUNDLE",
        "ROOKERY_COMMIT",
        "ROOKERY_BUILD_TIME",
    }


@pytest.mark.parametrize(("name", "text"), [(n, t) for n, texts in WRONG.items() for t in texts], ids=lambda v: v[:20])
def test_a_wrong_value_is_refused_in_one_line_that_names_the_setting(name, text):
    with pytest.raises(SettingError) as refused:
        Settings.from_env({name: text})
    line = str(refused.value)
    assert line.startswith(f"{name}={text[:40]!r} must be ")
    assert (len(line.splitlines()), len(line) < 200) == (1, True)


@pytest.mark.parametrize("env", [{}, {"PORT": "80"}, {"PORT": "80", "AIP_HTTP_PORT": "81"}])
def test_operations_do_not_share_their_port(env):
    taken = env.get("AIP_HTTP_PORT") or env.get("PORT", "8080")
    with pytest.raises(SettingError, match=f"^ROOKERY_OPS_PORT={taken} is the port of the service; name another one$"):
        Settings.from_env({**env, "ROOKERY_OPS_PORT": taken})
    assert Settings.from_env({**env, "ROOKERY_OPS_PORT": "9090"}).ops_port == 9090


@pytest.mark.parametrize("env", [{}, {"MAX_BODY_BYTES": "1048576"}])
def test_the_memory_for_bodies_has_room_for_the_largest_one(env):
    least = 2 * int(env.get("MAX_BODY_BYTES", 8 << 20))
    with pytest.raises(SettingError, match=f"^ROOKERY_BODY_MEMORY_BYTES={least - 1} .*; set at least {least}$"):
        Settings.from_env({**env, "ROOKERY_BODY_MEMORY_BYTES": str(least - 1)})
    assert Settings.from_env({**env, "ROOKERY_BODY_MEMORY_BYTES": str(least)}).body_memory_bytes == least


@pytest.mark.parametrize("address", ["http://collector:4318/v1/traces", "http://127.0.0.1.example", "http://10.0.0.1"])
def test_an_access_token_is_not_sent_where_others_can_read_it(address):
    env = {"ROOKERY_TRACE_AUTH": "google", "ROOKERY_TRACE_ENDPOINT": address}
    with pytest.raises(SettingError, match="ROOKERY_TRACE_AUTH is google, so ROOKERY_TRACE_ENDPOINT must"):
        Settings.from_env(env)
    assert Settings.from_env({**env, "ROOKERY_TRACE_AUTH": "none"}).trace_endpoint == address


@pytest.mark.parametrize(
    "address", ["https://telemetry.googleapis.com/v1/traces", "http://127.0.0.1:1/", "http://[::1]"]
)
def test_an_access_token_may_be_sent_over_tls_and_within_the_machine(address):
    env = {"ROOKERY_TRACE_AUTH": "google", "ROOKERY_TRACE_ENDPOINT": address}
    assert Settings.from_env(env).trace_endpoint == address


@pytest.mark.parametrize("name", [declared.metadata["env"] for declared in dataclasses.fields(Settings)])
def test_an_empty_value_counts_as_not_set(name):
    assert Settings.from_env({name: ""}) == DEFAULTS


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ROOKERY_WORKER", "ROOKERY_WORKERS"),
        ("ROOKERY_LOGLEVEL", "ROOKERY_LOG_LEVEL"),
        ("ROOKERY_CORS_ORIGIN", "ROOKERY_CORS_ORIGINS"),
        ("ROOKERY_BINDHOST", "ROOKERY_BIND_HOST"),
        ("ROOKERY_HOST", "ROOKERY_BIND_HOST"),
    ],
)
def test_an_unknown_setting_is_refused_with_the_name_meant(name, meant):
    with pytest.raises(SettingError) as refused:
        Settings.from_env({name: "1", "PATH": "/bin"})
    assert f"{name} is not a setting; did you mean {meant}?" == str(refused.value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("MODEL_DIGST", "MODEL_DIGEST"),
        ("MODEL_URL", "MODEL_URI"),
        ("MODELURI", "MODEL_URI"),
        ("ALLOW_FALBACK", "ALLOW_FALLBACK"),
        ("MAX_INSTANCE", "MAX_INSTANCES"),
        ("MAX_BODY_BYTE", "MAX_BODY_BYTES"),
        ("FASTPATH", "FAST_PATH"),
        ("ROOKRY_WORKERS", "ROOKERY_WORKERS"),
        ("model_digest", None),
        ("MODEL_DIGESTION", None),
        ("MODEL_NAME", None),
        ("MODEL_PATH", None),
        ("MODEL_URI_SERVICE_HOST", None),
        ("MODEL_PORT_8080_TCP", None),
        ("ENGINES", None),
        ("PORTS", None),
        ("K_SERVICE", None),
        ("GOOGLE_CLOUD_PROJECT", None),
    ],
)
def test_a_slip_of_the_pen_is_refused_without_the_prefix_too(name, meant):
    if meant is None:
        assert Settings.from_env({name: "1"}) == DEFAULTS
        return
    with pytest.raises(SettingError) as refused:
        Settings.from_env({name: "1"})
    assert str(refused.value) == f"{name} is not a setting; did you mean {meant}?"


def test_no_setting_is_taken_for_a_slip_of_another():
    given = {f.metadata["env"]: "" for f in dataclasses.fields(Settings)}
    assert Settings.from_env(given) == DEFAULTS


def test_a_setting_like_no_other_is_refused_with_all_that_are_known():
    with pytest.raises(SettingError) as refused:
        Settings.from_env({"ROOKERY_ZZZZZZZZZZZZZZZZZ": ""})
    assert str(refused.value).startswith(
        "ROOKERY_ZZZZZZZZZZZZZZZZZ is not a setting; known are ROOKERY_MODEL_CONTRACT, "
    )


@pytest.mark.parametrize(
    "name",
    [
        "ROOKERY_SERVICE_HOST",
        "ROOKERY_SERVICE_PORT",
        "ROOKERY_SERVICE_PORT_HTTP",
        "ROOKERY_PORT",
        "ROOKERY_PORT_8080_TCP",
        "ROOKERY_PORT_8080_TCP_PROTO",
        "ROOKERY_PORT_8080_TCP_PORT",
        "ROOKERY_PORT_53_UDP_ADDR",
    ],
)
def test_what_kubernetes_injects_for_a_service_is_no_setting(name):
    assert Settings.from_env({name: "tcp://10.0.0.1:8080"}) == DEFAULTS


def _wrong_values(count: int) -> list[tuple[str, str]]:
    """Return settings with text that none of them takes: letters, signs, control characters, megabytes."""
    seeded = random.Random(5)
    names = [*WRONG, "MODEL_PUBLIC_KEY", "MODEL_URI", "ROOKERY_CORS_ORIGINS"]
    alphabet = "abcXYZ0189 .,:;-_/{}\"'\\\n\t\x1b\u2028\U0001f427%"
    found = []
    while len(found) < count:
        text = "".join(seeded.choices(alphabet, k=seeded.choice([3, 30, 300, 30_000])))
        name = seeded.choice(names)
        found.append((name, f"gs://{text}" if name == "MODEL_URI" else f"?{text}"))
    return found


def test_200_wrong_settings_are_each_refused_in_one_line_that_names_them(monkeypatch, capsys):
    conf = Path(__file__).resolve().parents[3] / "service" / "gunicorn_conf.py"
    for name, text in _wrong_values(200):
        monkeypatch.setenv(name, text)
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(conf))
        monkeypatch.delenv(name)
        said = capsys.readouterr()
        assert (stopped.value.code, said.out) == (2, ""), (name, text[:40])
        assert len(said.err.splitlines()) == 1, (name, text[:40], said.err[:300])
        assert said.err.startswith(f"error: {name}"), said.err[:300]
        assert len(said.err) < 1_000


def test_without_a_mapping_the_environment_is_read(monkeypatch):
    monkeypatch.setenv("PORT", "9099")
    assert Settings.from_env().port == 9099


def test_the_table_names_every_setting_with_its_default_and_meaning():
    lines = settings_table().splitlines()
    assert lines[:2] == ["| setting | default | meaning |", "|---|---|---|"]
    assert [f"| `{f.metadata['env']}` |" for f in dataclasses.fields(Settings)] == [
        line[: line.index("|", 2) + 1] for line in lines[2:]
    ]
    assert "| `FAST_PATH` | `true` | short door" in settings_table()
    assert "| `MODEL_DIGEST` |  | digest" in settings_table()
    assert "| `PORT` | `8080` | TCP port" in settings_table()


# --- keys


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a public key."""
    return sign.make_keys(tmp_path_factory.mktemp("keys"))[1]


def test_a_key_is_given_as_text_or_as_a_file(public):
    as_file = Settings.from_env({"MODEL_PUBLIC_KEY": str(public)}).public_keys
    as_text = Settings.from_env({"MODEL_PUBLIC_KEY": "\n" + public.read_text()}).public_keys
    assert as_file is not None
    assert as_text is not None
    assert len(as_file.by_hint) == 1
    assert set(as_file.by_hint) == set(as_text.by_hint)


def test_two_keys_may_sign_while_one_is_rotated(public, tmp_path):
    other = sign.make_keys(tmp_path)[1].read_text()
    found = Settings.from_env({"MODEL_PUBLIC_KEY": public.read_text() + other}).public_keys
    assert found is not None
    assert len(found.by_hint) == 2


NOT_A_KEY = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("/nowhere/key.pem", "cannot be read: No such file or directory"),
        (".", "cannot be read: Is a directory"),
        ("-----BEGIN PUBLIC KEY-----", "holds no PEM public key (-----BEGIN PUBLIC KEY-----)"),
        (NOT_A_KEY, "holds a public key that cannot be read"),
    ],
    ids=["no file", "a folder", "cut off", "not a key"],
)
def test_a_key_that_cannot_be_used_is_refused_in_one_line(text, reason):
    with pytest.raises(SettingError) as refused:
        Settings.from_env({"MODEL_PUBLIC_KEY": text})
    assert f"MODEL_PUBLIC_KEY={text[:40]!r} {reason}" == str(refused.value)


def test_a_private_key_is_refused_and_not_repeated(tmp_path):
    private = sign.make_keys(tmp_path)[0]
    for text in (str(private), private.read_text()):
        with pytest.raises(SettingError) as refused:
            Settings.from_env({"MODEL_PUBLIC_KEY": text})
        assert str(refused.value).endswith("holds no PEM public key (-----BEGIN PUBLIC KEY-----)")
        assert private.read_text().splitlines()[1][:16] not in str(refused.value)


def test_a_key_on_another_curve_is_refused(tmp_path):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    form = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(SettingError, match="holds a key that is not ECDSA on P-256"):
        Settings.from_env({"MODEL_PUBLIC_KEY": form.decode()})


# --- nothing unpinned and unsigned from a bucket

IN_BUCKET = ("MODEL_URI", "MODEL_DIGEST"), ("MODEL_FALLBACK_URI", "MODEL_FALLBACK_DIGEST")


@pytest.mark.parametrize(("address", "pin"), IN_BUCKET)
@pytest.mark.parametrize(
    ("uri", "line"),
    [
        (f"gs://models/penguins/{HEX}/", f"sha256:{HEX}"),
        ("gs://models/penguins/latest", "sha256:<64 hex>"),
        ("gs://models", "sha256:<64 hex>"),
    ],
    ids=["named", "unnamed", "whole bucket"],
)
def test_an_unpinned_bundle_in_a_bucket_is_refused_with_the_line_to_add(address, pin, uri, line):
    with pytest.raises(SettingError) as refused:
        Settings.from_env({address: uri})
    assert f"{address} is in a bucket, but neither pinned nor signed; add {pin}={line} or MODEL_PUBLIC_KEY" == str(
        refused.value
    )


def test_the_line_to_add_is_enough():
    uri = f"gs://models/penguins/{HEX}/"
    with pytest.raises(SettingError) as refused:
        Settings.from_env({"MODEL_URI": uri})
    name, _, value = str(refused.value).partition("add ")[2].split(" ")[0].partition("=")
    assert Settings.from_env({"MODEL_URI": uri, name: value}).model_digest == f"sha256:{HEX}"


@pytest.mark.parametrize(("address", "pin"), IN_BUCKET)
def test_the_pin_of_the_one_is_none_of_the_other(address, pin):
    (other,) = {"MODEL_DIGEST", "MODEL_FALLBACK_DIGEST"} - {pin}
    with pytest.raises(SettingError, match=f"add {pin}="):
        Settings.from_env({address: "gs://models/penguins", other: HEX})


@pytest.mark.parametrize(("address", "pin"), IN_BUCKET)
def test_a_pinned_or_signed_bundle_in_a_bucket_is_taken(address, pin, public):
    uri = "gs://models/penguins"
    for more in ({pin: HEX}, {"MODEL_PUBLIC_KEY": str(public)}):
        found = Settings.from_env({address: uri, **more})
        assert uri in (found.model_uri, found.fallback_uri)


@pytest.mark.parametrize("address", ["MODEL_URI", "MODEL_FALLBACK_URI"])
@pytest.mark.parametrize("uri", ["gs://", "gs://UPPER/x", "gs://models/../x", "gs://models/x//y", "gs://models/x?y"])
def test_an_address_that_is_none_is_refused(address, uri):
    with pytest.raises(SettingError) as refused:
        Settings.from_env({address: uri, "MODEL_DIGEST": HEX, "MODEL_FALLBACK_DIGEST": HEX})
    assert f"{address}: {uri!r} is not an address such as gs://bucket/models/penguins" == str(refused.value)


def test_a_bundle_on_disk_needs_neither_pin_nor_key():
    assert Settings.from_env({"MODEL_URI": "/bundle", "MODEL_FALLBACK_URI": "/other"}).model_digest is None
