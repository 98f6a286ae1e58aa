"""Every setting is parsed, and a wrong one is refused in one line that names it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from service.config import SettingError, Settings, settings_table

HEX = "0123456789abcdef" * 4

GOOD = {
    ("PORT", "1"): ("port", 1),
    ("PORT", "65535"): ("port", 65535),
    ("MODEL_URI", "bundles/penguins/ab"): ("model_uri", Path("bundles/penguins/ab")),
    ("MODEL_DIGEST", HEX): ("model_digest", f"sha256:{HEX}"),
    ("MODEL_DIGEST", f"sha256:{HEX}"): ("model_digest", f"sha256:{HEX}"),
    ("ENGINE", "onnx"): ("engine", "onnx"),
    ("ENGINE", "xgboost"): ("engine", "xgboost"),
    ("FAST_PATH", "false"): ("fast_path", False),
    ("FAST_PATH", "True"): ("fast_path", True),
    ("MAX_INSTANCES", "1"): ("max_instances", 1),
    ("MAX_BODY_BYTES", "1024"): ("max_body_bytes", 1024),
    ("ROOKERY_BIND_HOST", "0.0.0.0"): ("bind_host", "0.0.0.0"),
    ("ROOKERY_BIND_HOST", "[::1]"): ("bind_host", "[::1]"),
    ("ROOKERY_WORKERS", "64"): ("workers", 64),
    ("ROOKERY_LOG_LEVEL", "warning"): ("log_level", "warning"),
    ("ROOKERY_CORS_ORIGINS", "https://lab.example"): ("cors_origins", ("https://lab.example",)),
    ("ROOKERY_CORS_ORIGINS", " https://a.example:8443 , http://localhost:3000,"): (
        "cors_origins",
        ("https://a.example:8443", "http://localhost:3000"),
    ),
    ("ROOKERY_COMMIT", "9a931e0"): ("commit", "9a931e0"),
    ("ROOKERY_BUILD_TIME", "2026-01-01T00:00:00Z"): ("build_time", "2026-01-01T00:00:00Z"),
}

WRONG = {
    "PORT": ["0", "65536", "-1", "8080 ", "80.0", "http", "1" * 5000, "8080\n"],
    "MODEL_DIGEST": ["ab", HEX.upper(), f"sha512:{HEX}", f"{HEX}0", f"{HEX}\n"],
    "ENGINE": ["onnxruntime", "ONNX", "none"],
    "FAST_PATH": ["1", "yes", "off", " true"],
    "MAX_INSTANCES": ["0", "1000001", "ten", "1e4", "10_000"],
    "MAX_BODY_BYTES": ["1023", "8MB", str((1 << 30) + 1)],
    "ROOKERY_BIND_HOST": ["0.0.0.0:80 ", "a b", "unix:/x\n", "x" * 256],
    "ROOKERY_WORKERS": ["0", "65", "auto"],
    "ROOKERY_LOG_LEVEL": ["INFO", "trace"],
    "ROOKERY_CORS_ORIGINS": ["*", "lab.example", "https://lab.example/", "https://*.example", "null", "https://a b"],
}

DEFAULTS = Settings()


@pytest.mark.parametrize(("given", "expected"), GOOD.items(), ids=lambda pair: f"{pair[0]}={str(pair[1])[:20]}")
def test_a_setting_is_parsed_and_the_others_keep_their_defaults(given, expected):
    name, text = given
    assert dataclasses.replace(DEFAULTS, **{expected[0]: expected[1]}) == Settings.from_env({name: text})


def test_every_setting_has_a_test():
    names = {declared.metadata["env"] for declared in dataclasses.fields(Settings)}
    assert names == {name for name, _ in GOOD}
    assert names - set(WRONG) == {"MODEL_URI", "ROOKERY_COMMIT", "ROOKERY_BUILD_TIME"}


@pytest.mark.parametrize(("name", "text"), [(n, t) for n, texts in WRONG.items() for t in texts], ids=lambda v: v[:20])
def test_a_wrong_value_is_refused_in_one_line_that_names_the_setting(name, text):
    with pytest.raises(SettingError) as refused:
        Settings.from_env({name: text})
    line = str(refused.value)
    assert line.startswith(f"{name}={text[:40]!r} must be ")
    assert (len(line.splitlines()), len(line) < 200) == (1, True)


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


def test_a_setting_like_no_other_is_refused_with_all_that_are_known():
    with pytest.raises(SettingError) as refused:
        Settings.from_env({"ROOKERY_ZZZZZZZZZZZZZZZZZ": ""})
    assert str(refused.value).startswith("ROOKERY_ZZZZZZZZZZZZZZZZZ is not a setting; known are ROOKERY_BIND_HOST, ")


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
