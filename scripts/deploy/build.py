"""Where the image comes from: Cloud Build, which does everything, or docker on this machine."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from scripts.deploy.gcloud import CommandError, run

ROOT = Path(__file__).resolve().parents[2]
IMAGE_SCRIPT = "scripts/image/image.sh"
STEPS = str(ROOT / "scripts/deploy/steps.sh")
UNKNOWN = "unknown"


def repository(project: str, region: str) -> str:
    """Return the image's name in Artifact Registry, without tag and digest."""
    return f"{region}-docker.pkg.dev/{project}/rookery/rookery"


def submit_command(given: argparse.Namespace) -> list[str]:
    """Return gcloud's command that sends the source to Cloud Build and waits."""
    values = {
        "_REGION": given.region,
        "_SERVICE": given.service,
        "_SPEC": given.spec,
        "_BUNDLE": given.bundle,
        "_COMMIT": commit(),
    }
    substitutions = ",".join(f"{name}={value}" for name, value in values.items())
    account = f"projects/{given.project}/serviceAccounts/rookery-build@{given.project}.iam.gserviceaccount.com"
    return [
        "gcloud",
        "builds",
        "submit",
        "--config=cloudbuild.yaml",
        f"--project={given.project}",
        f"--service-account={account}",
        f"--gcs-source-staging-dir=gs://{given.project}-rookery-build/source",
        f"--substitutions={substitutions}",
        str(ROOT),
    ]


def commit() -> str:
    """Return the source's commit, marked if the tree is not clean."""
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
        state = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return UNKNOWN
    return found.stdout.strip() + ("-dirty" if state.stdout.strip() else "")


def bundle_here(given: argparse.Namespace, env: Mapping[str, str]) -> dict[str, str]:
    """Train, sign and publish a bundle, or verify the published one that was given, by the steps of Cloud Build.

    Returns:
        What to pin: `MODEL_URI`, `MODEL_DIGEST` and `ROOKERY_MODEL_CONTRACT`.

    Raises:
        CommandError: a step failed, or a key cannot be read.
    """
    steps = (
        ["bundle"] if given.model_uri else ["bundle", "publish"] if given.unsigned else ["bundle", "sign", "publish"]
    )
    keys = {}
    if not given.unsigned and given.model_uri:
        keys["PUBLIC_KEY"] = run(secret_command(given.project, given.public_key_secret), env)
    elif not given.unsigned:
        keys["SIGNING_KEY"] = run(secret_command(given.project, "rookery-signing-key"), env)
    with tempfile.TemporaryDirectory() as folder:
        settings = {"PROJECT": given.project, "SPEC": given.spec, "BUNDLE": given.model_uri, "FOLDER": folder, **keys}
        for step in steps:
            # what it says is for people; our own output is the addresses
            print(run(["sh", STEPS, step], {**env, **settings}), file=sys.stderr)
        notes = Path(folder, "release.env").read_text().splitlines()
    return dict(line.partition("=")[::2] for line in notes)


def secret_command(project: str, name: str) -> list[str]:
    """Return gcloud's command that prints a secret."""
    return ["gcloud", "secrets", "versions", "access", "latest", f"--secret={name}", f"--project={project}"]


def build_here(project: str, region: str, env: Mapping[str, str]) -> str:
    """Build the image with docker, podman or buildah, push it, and return its reference by digest.

    Raises:
        CommandError: the build or the push failed, or the engine tells no digest.
    """
    tag = f"{repository(project, region)}:{commit()}"
    engine = run([IMAGE_SCRIPT, "engine"], env)
    run([IMAGE_SCRIPT, "build"], {**env, "IMAGE": tag})
    run([engine, "push", tag], env)
    return by_digest(engine, tag, env)


def by_digest(engine: str, tag: str, env: Mapping[str, str]) -> str:
    """Return the pushed image's reference by digest: a tag can be moved to another image."""
    known = json.loads(run([engine, "image", "inspect", "--format", "{{json .RepoDigests}}", tag], env) or "[]")
    name = tag.rpartition(":")[0]
    for reference in known:
        if str(reference).startswith(f"{name}@sha256:"):
            return str(reference)
    raise CommandError(f"{engine} tells no digest of {tag}; was it pushed?")
