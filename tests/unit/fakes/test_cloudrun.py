"""The fake Cloud Run, commanded by the real gcloud; ends with the proof that nothing left the machine."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from scripts.deploy.__main__ import main
from tests.fakes.cloudrun import CloudRun, Image

STAND_IN = Image((sys.executable, "-m", "tests.fakes.cloudrun_stand_in"))
needs_gcloud = pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed")


@pytest.fixture
def cloud() -> Iterator[CloudRun]:
    with CloudRun({"registry.test/rookery": STAND_IN}) as running:
        yield running


def gcloud(cloud: CloudRun, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["gcloud", "run", *arguments]
    return subprocess.run(command, env=cloud.environment(folder), capture_output=True, text=True, check=False)


@needs_gcloud
def test_gcloud_deploys_splits_and_reads_back(cloud: CloudRun, tmp_path: Path):
    image = "--image=registry.test/rookery:1"
    assert gcloud(cloud, tmp_path, "deploy", "x", image, "--no-allow-unauthenticated").returncode == 0
    (stable,) = cloud.traffic("x")
    assert gcloud(cloud, tmp_path, "deploy", "x", image, "--no-traffic", "--tag=candidate").returncode == 0
    assert cloud.traffic("x") == {stable: 100}

    moved = gcloud(cloud, tmp_path, "services", "update-traffic", "x", "--to-tags=candidate=20")

    assert moved.returncode == 0, moved.stderr
    shares = cloud.traffic("x")
    assert sorted(shares.values()) == [20, 80]
    with requests.Session() as session:
        options = {"headers": {"Authorization": "Bearer t"}, "proxies": {"http": cloud.proxy}, "timeout": 5}
        answered = Counter(session.get(cloud.url("x"), **options).text for _ in range(300))
        assert session.get(cloud.url("x", "candidate"), **options).text not in (stable, "")
    assert set(answered) == set(shares)
    assert 200 < answered[stable] < 275
    assert cloud.refused == []


@needs_gcloud
def test_gcloud_takes_the_rendered_service_file(cloud: CloudRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    where = ["--project=demo", "--region=us-central1", "--service=x", "--image=registry.test/rookery:1"]
    main(["render", *where, "--model-uri=gs://m/x/", f"--model-digest=sha256:{'a' * 64}"], {"PATH": ""})
    file = tmp_path / "service.yaml"
    file.write_text(capsys.readouterr().out)

    done = gcloud(cloud, tmp_path, "services", "replace", str(file))

    assert done.returncode == 0, done.stderr
    (revision,) = cloud.traffic("x")
    assert cloud.resources.revisions[revision].environment()["MODEL_URI"] == "gs://m/x/"


def test_whoever_wants_to_leave_is_refused_and_counted(cloud: CloudRun):
    port = int(cloud.proxy.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"CONNECT oauth2.googleapis.com:443 HTTP/1.1\r\nHost: oauth2.googleapis.com\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 403 ")
    assert requests.get("http://example.test/", proxies={"http": cloud.proxy}, timeout=5).status_code == 403

    assert cloud.refused == ["oauth2.googleapis.com:443", "example.test"]
