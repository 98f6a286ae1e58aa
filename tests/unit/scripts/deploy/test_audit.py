"""Known vulnerabilities of the pinned packages: the real pip-audit against a small OSV server on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from scripts.deploy.audit import main, read

TODAY = date(2026, 12, 1)
HASH = f"--hash=sha256:{'0' * 64}"
# the members that https://ossf.github.io/osv-schema/ requires, and those that pip-audit reads
WEAKNESS = {
    "id": "GHSA-xxxx-xxxx-xxxx",
    "aliases": ["CVE-2026-1"],
    "modified": "2026-01-01T00:00:00Z",
    "published": "2026-01-01T00:00:00Z",
    "affected": [
        {
            "package": {"name": "flawed", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.1"}]}],
        }
    ],
}


class Osv(BaseHTTPRequestHandler):
    """`POST /v1/query` of https://google.github.io/osv.dev/post-v1-query/: one package has a vulnerability."""

    def do_POST(self) -> None:
        query: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        is_flawed = (query["package"]["name"], query["version"]) == ("flawed", "1.0")
        body = json.dumps({"vulns": [WEAKNESS]} if is_flawed else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def osv() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Osv) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
        server.shutdown()
        thread.join()


@pytest.fixture
def check(tmp_path: Path, osv: str):
    """Audit one pinned package."""

    def run(pin: str, *, url: str = osv, exceptions: str = "") -> int:
        (tmp_path / "requirements.txt").write_text(f"{pin} {HASH}\n")
        (tmp_path / "exceptions.toml").write_text(exceptions)
        files = [str(tmp_path / "requirements.txt"), f"--exceptions={tmp_path / 'exceptions.toml'}"]
        return main([*files, f"--osv-url={url}"], TODAY)

    return run


@pytest.mark.parametrize(
    ("pin", "exceptions", "status"),
    [
        ("flawed==1.0", "", 1),
        ("flawed==1.1", "", 0),
        ("sound==1.0", "", 0),
        ("flawed==1.0", '[CVE-2026-1]\nuntil = 2026-12-01\nreason = "not called"', 0),
        ("flawed==1.0", '[CVE-2026-1]\nuntil = 2026-11-30\nreason = "not called"', 1),
        ("flawed==1.0", '[CVE-2026-2]\nuntil = 2026-12-01\nreason = "not called"', 1),
        ("flawed==1.0", "[CVE-2026-1]\nreason = 1", 2),
    ],
    ids=["known", "fixed", "unknown", "excepted", "excepted-until-yesterday", "another-excepted", "bad-exceptions"],
)
def test_status(check, pin, exceptions, status):
    assert check(pin, exceptions=exceptions) == status


def test_the_message_names_package_vulnerability_and_remedy(check, capsys):
    assert check("flawed==1.0") == 1
    assert "flawed 1.0 has CVE-2026-1 GHSA-xxxx-xxxx-xxxx; fixed in 1.1" in capsys.readouterr().err


def test_a_database_that_does_not_answer_is_not_a_clean_bill(check, capsys):
    assert check("flawed==1.0", url="http://127.0.0.1:9/v1/query") == 75
    assert "NOT CHECKED" in capsys.readouterr().err


def test_a_skipped_package_is_not_a_checked_one():
    # pip-audit itself prints "No known vulnerabilities found" and ends with 0
    report = {"dependencies": [{"name": "flawed", "skip_reason": "not found"}], "fixes": []}
    assert read(report) == ([], ["flawed"])


def test_a_missing_file_is_an_error(tmp_path, capsys):
    assert main([str(tmp_path / "missing.txt")]) == 2
    assert "missing.txt" in capsys.readouterr().err
