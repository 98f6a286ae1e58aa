"""Other processes use the fake: one that runs by itself, and gcloud."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.fakes.conftest import BUCKET

ROOT = Path(__file__).resolve().parents[3]
RESUMABLE = 8 * 1024 * 1024 + 1  # gcloud sends larger files by a resumable upload

READER = """
from google.cloud import storage
with storage.Client() as client:
    blob = client.bucket("models").blob("a/b")
    blob.upload_from_string(b"abc", if_generation_match=0)
    print(blob.download_as_bytes().decode())
"""


def test_a_fake_of_its_own_process_tells_its_address_first_and_ends_when_told():
    command = [sys.executable, "-m", "tests.fakes.gcs", "--port", "0", "--bucket", BUCKET]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().strip()
            client = subprocess.run(
                [sys.executable, "-c", READER],
                env={**os.environ, "STORAGE_EMULATOR_HOST": url, "NO_PROXY": "127.0.0.1"},
                capture_output=True,
                text=True,
                timeout=60,
            )
        finally:
            process.terminate()
    assert (client.stdout, client.returncode) == ("abc\n", 0), client.stderr
    assert process.returncode == 0


@pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not on PATH")
def test_gcloud_copies_to_the_fake_and_back(fake, tmp_path):
    folder = tmp_path / "sent"
    folder.mkdir()
    files = {"small é.json": b"one \r\n two \n\r", "large": os.urandom(RESUMABLE)}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    environment = os.environ | fake.environment()
    environment |= {
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE": f"{fake.url}/storage/v1/",
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
        "CLOUDSDK_CONFIG": str(tmp_path / "config"),
        "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
    }
    for source, target in ((str(folder), f"gs://{BUCKET}/"), (f"gs://{BUCKET}/sent", str(tmp_path / "back"))):
        (tmp_path / "back").mkdir(exist_ok=True)
        copy = subprocess.run(
            ["gcloud", "storage", "cp", "--recursive", source, target],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert copy.returncode == 0, copy.stderr
    assert files == {name: fake.get(BUCKET, f"sent/{name}") for name in files}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "back/sent").iterdir()}
    assert {"insert", "start", "chunk"} <= {one.op for one in fake.requests}
