"""The build: its two descriptions, its steps, and what Cloud Build gets of it."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.deploy import build
from tests.fakes.cloudbuild import HOST, CloudBuild
from tests.fakes.cloudrun import CloudRun
from tests.fakes.gcs import FakeStorage
from tests.fakes.gcs import fake_storage as fake_storage

ROOT = Path(__file__).resolve().parents[4]
STEPS = ROOT / "scripts/deploy/steps.sh"
BUILD: dict[str, Any] = yaml.safe_load((ROOT / "cloudbuild.yaml").read_text())
WORKFLOW: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/deploy.yml").read_text())
PINNED = re.compile(r"uses: [a-z-]+/[a-z-]+@([0-9a-f]{40})  # v[0-9.]+")
needs_gcloud = pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed")


def test_both_descriptions_call_every_step_in_its_order():
    told = re.findall(r"^#   steps\.sh ([a-z-]+) ", STEPS.read_text(), re.MULTILINE)
    in_workflow = re.findall(r"steps\.sh ([a-z-]+)", (ROOT / ".github/workflows/deploy.yml").read_text())

    assert len(told) == 10
    assert [step["args"] for step in BUILD["steps"]] == [["scripts/deploy/steps.sh", name] for name in told]
    assert [step["id"] for step in BUILD["steps"]] == told
    assert in_workflow == told


def test_what_is_declared_is_used():
    text = (ROOT / "cloudbuild.yaml").read_text()
    variables = {one.split("=")[0] for one in BUILD["options"]["env"]}

    assert [name for name in BUILD["substitutions"] if text.count(f"${{{name}}}") != 1] == []
    assert {name for name in variables if f"${name}" not in STEPS.read_text()} == set()
    assert BUILD["options"]["logging"] == "CLOUD_LOGGING_ONLY"


def test_actions_are_pinned_to_commits_that_the_other_workflow_uses():
    text = (ROOT / ".github/workflows/deploy.yml").read_text()
    pinned = PINNED.findall(text)

    assert len(pinned) == text.count("uses:") > 0
    assert set(pinned) <= set(PINNED.findall((ROOT / ".github/workflows/ci.yml").read_text()))
    assert WORKFLOW["permissions"] == {"contents": "read", "id-token": "write"}


@needs_gcloud
def test_gcloud_submits_the_source_and_the_steps(fake_storage: FakeStorage, tmp_path: Path):
    fake_storage.create_bucket("demo-rookery-build")
    builds = CloudBuild()
    with CloudRun({}) as cloud:
        cloud.hosts[HOST] = builds.answer
        environment = cloud.environment(tmp_path) | builds.environment()
        environment["CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE"] = f"{fake_storage.url}/storage/v1/"

        command = [sys.executable, "-m", "scripts.deploy", "submit", "--project=demo", "--region=europe-west1"]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

        assert cloud.refused == []
    # the build is said to have succeeded, but nobody made a service
    assert (done.returncode, "there is no service rookery" in done.stderr) == (1, True), done.stderr
    (build,) = builds.builds
    assert [step["id"] for step in build["steps"]] == [step["id"] for step in BUILD["steps"]]
    assert build["substitutions"]["_REGION"] == "europe-west1"
    assert build["serviceAccount"].endswith("rookery-build@demo.iam.gserviceaccount.com")
    assert fake_storage.names("demo-rookery-build", "source/") != []


@needs_gcloud
def test_gcloud_would_refuse_a_word_that_the_api_does_not_know(tmp_path: Path):
    file = tmp_path / "cloudbuild.yaml"
    file.write_text((ROOT / "cloudbuild.yaml").read_text().replace("machineType:", "machineKind:"))
    with CloudRun({}) as cloud:
        command = ["gcloud", "builds", "submit", "--no-source", f"--config={file}"]
        done = subprocess.run(command, env=cloud.environment(tmp_path), capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "machineKind" in done.stderr


def stand_ins(folder: Path) -> dict[str, str]:
    """Return an environment with programs that only note how they were called."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    for program in ("docker", "gcloud", "make", "python"):
        script = programs / program
        script.write_text(f'#!/bin/sh\necho "{program} $*" >> "{folder}/calls"\n{EXTRA.get(program, "")}')
        script.chmod(0o755)
    return {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHON": str(programs / "python"),
        "FOLDER": str(folder),
        "PROJECT": "demo",
        "REGION": "r",
        "SERVICE": "x",
        "COMMIT": "c0ffee",
    }


def run_step(name: str, folder: Path, more: Mapping[str, str] = {}) -> subprocess.CompletedProcess[str]:
    """Run one step."""
    environment = stand_ins(folder) | more
    return subprocess.run(["sh", str(STEPS), name], env=environment, capture_output=True, text=True, check=False)


PINS = f"MODEL_URI=gs://m/1/\nMODEL_DIGEST=sha256:{'1' * 64}\nROOKERY_MODEL_CONTRACT=sha256:2"
EXTRA = {
    "python": f'case "$*" in *upload*) printf "{PINS}\\n" ;; esac',
    "docker": """case "$*" in
*--metadata-file*) echo '{"containerimage.digest": "sha256:abc"}' > "$FOLDER/image.json" ;;
esac""",
    "gcloud": 'case "$*" in *list-vuln*) echo "[]" ;; *) echo scans/1 ;; esac',
}


def test_what_one_step_finds_out_the_next_ones_use(tmp_path: Path):
    for name in ("publish", "image", "scan", "judge-scan", "deploy", "rollout"):
        done = run_step(name, tmp_path)
        assert done.returncode == 0, (name, done.stderr)
    calls = (tmp_path / "calls").read_text()

    image = "r-docker.pkg.dev/demo/rookery/rookery"
    assert "python -m model.publish upload bundles/penguins gs://demo-rookery-models/penguins\n" in calls
    assert f"--tag {image}:c0ffee --push --cache-from type=registry,ref={image}:cache" in calls
    assert f"gcloud artifacts docker images scan {image}@sha256:abc --remote" in calls
    assert f"--image {image}@sha256:abc --model-uri gs://m/1/ --model-digest sha256:{'1' * 64}" in calls
    assert calls.splitlines()[-1].startswith("python -m scripts.rollout run ")


def test_a_given_bundle_is_neither_trained_nor_signed_nor_published(tmp_path: Path):
    given = {"BUNDLE": f"gs://m/{'1' * 64}/"}
    for name in ("bundle", "sign", "publish"):
        assert run_step(name, tmp_path, given).returncode == 0
    calls = (tmp_path / "calls").read_text().splitlines()

    assert calls == ["make install", f"python -m model.publish verify gs://m/{'1' * 64}/"]
    assert f"MODEL_DIGEST=sha256:{'1' * 64}" in (tmp_path / "release.env").read_text()


def test_a_given_bundle_must_be_signed_where_there_is_a_key(tmp_path: Path):
    done = run_step("bundle", tmp_path, {"BUNDLE": f"gs://m/{'1' * 64}/", "PUBLIC_KEY": "PEM", "TMPDIR": str(tmp_path)})

    assert done.returncode == 0, done.stderr
    assert (
        f"python -m model.publish verify gs://m/{'1' * 64}/ --key {tmp_path}/tmp." in (tmp_path / "calls").read_text()
    )
    assert list(tmp_path.glob("tmp.*")) == []


def test_what_is_built_here_goes_the_same_steps(tmp_path: Path):
    environment = stand_ins(tmp_path)
    given = argparse.Namespace(project="demo", spec="model/specs/penguins.toml", model_uri="", unsigned=False)
    given.public_key_secret = "rookery-signing-public"

    pins = build.bundle_here(given, environment)
    assert pins == {
        "MODEL_URI": "gs://m/1/",
        "MODEL_DIGEST": f"sha256:{'1' * 64}",
        "ROOKERY_MODEL_CONTRACT": "sha256:2",
    }
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[0] == "gcloud secrets versions access latest --secret=rookery-signing-key --project=demo"
    assert calls[1:3] == ["make install", "make train SPEC=model/specs/penguins.toml"]
    assert calls[3].startswith("python -m model.sign bundle bundles/penguins --key ")
    assert calls[4] == "python -m model.publish upload bundles/penguins gs://demo-rookery-models/penguins"

    (tmp_path / "calls").unlink()
    given.model_uri = f"gs://m/{'3' * 64}/"
    assert build.bundle_here(given, environment)["MODEL_DIGEST"] == f"sha256:{'3' * 64}"
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[0] == "gcloud secrets versions access latest --secret=rookery-signing-public --project=demo"
    assert calls[2].startswith(f"python -m model.publish verify gs://m/{'3' * 64}/ --key ")
    assert len(calls) == 3


def test_the_signing_key_is_a_file_only_while_it_signs(tmp_path: Path):
    done = run_step("sign", tmp_path, {"SIGNING_KEY": "PEM", "TMPDIR": str(tmp_path)})

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "calls").read_text().startswith("python -m model.sign bundle bundles/penguins --key ")
    assert list(tmp_path.glob("tmp.*")) == []


def test_an_unknown_step_is_named(tmp_path: Path):
    done = run_step("ship-it", tmp_path)

    assert (done.returncode, done.stderr.startswith("error: no step ship-it")) == (2, True)
