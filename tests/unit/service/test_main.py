"""The command that serves on this machine, up to where it becomes Gunicorn."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from model.manifest import example
from model.verify import VerifiedBundle
from service.__main__ import curl_line, invitation, main
from service.config import Settings


def test_missing_bundle_is_one_line_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    status = main([str(tmp_path / "none")])

    printed = capsys.readouterr()
    assert status == 2
    assert printed.out == ""
    assert printed.err.startswith("error: bundle_missing: ")
    assert printed.err.count("\n") == 1


def test_wrong_setting_is_one_line_and_status_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("PORT", "eighty")

    assert main([]) == 2
    assert capsys.readouterr().err == "error: PORT='eighty' must be a whole number from 1 to 65535\n"


def test_the_line_to_try_sends_an_ordinary_instance(penguins: VerifiedBundle):
    printed = curl_line(penguins.manifest, Settings(bind_host="0.0.0.0", port=9000))

    words = shlex.split(next(line for line in printed.splitlines() if "curl" in line))
    assert "http://127.0.0.1:9000/predict" in words
    assert json.loads(words[words.index("-d") + 1]) == example(penguins.manifest)


@pytest.mark.parametrize(
    ("settings", "opened"),
    [
        (Settings(), "http://127.0.0.1:8080"),
        (Settings(bind_host="0.0.0.0", port=9000), "http://127.0.0.1:9000"),
        (Settings(page=False), "http://127.0.0.1:8080/docs"),
    ],
    ids=["as it ships", "on every address", "without the page"],
)
def test_it_says_what_to_open(settings: Settings, opened: str):
    assert invitation("penguins 1", settings) == f"Serving penguins 1: open {opened} in a browser; Ctrl-C stops it."
