"""Deploys to Cloud Run: `python -m scripts.deploy submit|local|revision|render`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from model.command_line import Parser
from scripts.deploy import build, revision
from scripts.deploy.gcloud import CommandError, configured, run
from scripts.deploy.release import Release, ReleaseError, fill, revision_name
from scripts.rollout import credentials
from scripts.rollout.cloudrun import Place, Services
from scripts.rollout.credentials import CredentialsError
from scripts.rollout.platform import Conflict, PlatformError

FILE = Path(__file__).resolve().parents[2] / "deploy/cloudrun/service.yaml"
FAILED, WRONG, LOST = 1, 2, 3
EXAMPLES = """examples:
  python -m scripts.deploy submit --project my-project --region europe-west1
  python -m scripts.deploy revision --image europe-west1-docker.pkg.dev/my-project/rookery/rookery@sha256:… \\
      --model-uri gs://my-project-rookery-models/penguins/1dbd…905f/ --model-digest sha256:1dbd…905f

exit status: 0 deployed, 1 it failed, 2 wrong usage, 3 somebody else changed the service meanwhile"""


def main(arguments: Sequence[str] | None = None, env: Mapping[str, str] = os.environ) -> int:
    """Run the command; EXAMPLES has the exit statuses."""
    given = parser().parse_args(arguments)
    try:
        given.project = given.project or configured("project", env)
        given.region = given.region or configured("run/region", env) or "us-central1"
        if not given.project:
            raise ReleaseError("no project; give --project, or run: gcloud config set project PROJECT")
        {"submit": _submit, "local": _local, "revision": _revision, "render": _render}[given.verb](given, env)
    except (ReleaseError, CredentialsError) as error:
        return _refuse(WRONG, str(error))
    except Conflict as error:
        return _refuse(LOST, f"{error}; nothing was done: look, then try again")
    except (CommandError, PlatformError) as error:
        return _refuse(FAILED, str(error))
    return 0


def _refuse(status: int, text: str) -> int:
    print(f"error: {text}", file=sys.stderr)
    return status


def parser() -> Parser:
    """Describe the command line."""
    top = Parser(
        prog="python -m scripts.deploy",
        description="Deploy a revision without traffic, tagged candidate; `make rollout` gives it traffic.",
        epilog=EXAMPLES,
    )
    where, what = _where(), _what()
    verbs = top.add_subparsers(dest="verb", required=True)
    submit = verbs.add_parser("submit", parents=[where], help="have Cloud Build do everything, from check to rollout")
    submit.add_argument("--spec", default="model/specs/penguins.toml", help="what to train (default: penguins)")
    submit.add_argument("--bundle", default="", help="gs://…/<digest>/ of a published bundle, instead of training")
    verbs.add_parser("local", parents=[where, what], help="build with docker here, push, deploy")
    one = verbs.add_parser("revision", parents=[where, what], help="deploy an image that is in the registry")
    filled = verbs.add_parser("render", parents=[where, what], help="print the file for `gcloud run services replace`")
    for verb in (one, filled):
        verb.add_argument("--image", required=True, help="image, best by digest")
    return top


def _where() -> Parser:
    where = Parser(add_help=False)
    where.add_argument("--project", help="Google Cloud project (default: gcloud's)")
    where.add_argument("--region", help="region (default: gcloud's run/region, else us-central1)")
    where.add_argument("--service", default="rookery", help="name of the service (default: rookery)")
    where.add_argument("--public", action="store_true", help="let everybody call it; else callers need a token")
    return where


def _what() -> Parser:
    what = Parser(add_help=False)
    what.add_argument("--model-uri", required=True, help="gs://bucket/prefix/<digest>/ as `make publish` prints it")
    what.add_argument("--model-digest", required=True, help="the bundle's digest: sha256:…")
    what.add_argument("--model-contract", default="", help="ROOKERY_MODEL_CONTRACT as `make publish` prints it")
    what.add_argument("--service-account", help="identity of the service (default: rookery-runtime of the project)")
    what.add_argument("--public-key-secret", default="rookery-signing-public", help="secret with the public key")
    what.add_argument("--unsigned", action="store_true", help="serve bundles that are not signed too")
    what.add_argument("--no-sidecar", action="store_true", help="without the sidecar that sends metrics")
    what.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting; repeatable")
    what.add_argument("--file", type=Path, default=FILE, help="the service file")
    return what


def _release(given: argparse.Namespace, image: str) -> Release:
    settings = dict(one.partition("=")[::2] for one in given.set)
    if given.model_contract:
        settings["ROOKERY_MODEL_CONTRACT"] = given.model_contract
    account = given.service_account or f"rookery-runtime@{given.project}.iam.gserviceaccount.com"
    return Release(
        service=given.service,
        revision=revision_name(given.service, given.model_digest, int(time.time())),
        image=image,
        model_uri=given.model_uri,
        model_digest=given.model_digest,
        service_account=account,
        settings=settings,
        has_sidecar=not given.no_sidecar,
        public_key_secret="" if given.unsigned else given.public_key_secret,
    )


def _render(given: argparse.Namespace, _: Mapping[str, str]) -> None:
    body = fill(yaml.safe_load(given.file.read_text()), _release(given, given.image))
    print(yaml.safe_dump(body, sort_keys=False), end="")


def _revision(given: argparse.Namespace, env: Mapping[str, str]) -> None:
    services = _services(given, env)
    release = _release(given, given.image)
    url, candidate = revision.deploy(services, yaml.safe_load(given.file.read_text()), release)
    if given.public:
        run(open_command(given), env)
    print(f"CLOUD_RUN_URL={url}\nCANDIDATE_URL={candidate}\nREVISION={release.revision}")


def _local(given: argparse.Namespace, env: Mapping[str, str]) -> None:
    given.image = build.build_here(given.project, given.region, env)
    _revision(given, env)


def _submit(given: argparse.Namespace, env: Mapping[str, str]) -> None:
    run(build.submit_command(given), env)
    found = _services(given, env).get(given.service)
    if found is None:
        raise CommandError(f"Cloud Build succeeded, but there is no service {given.service}; see its log")
    if given.public:
        # with the caller's own rights: the build's account cannot open a service
        run(open_command(given), env)
    print(f"CLOUD_RUN_URL={found['status']['url']}")


def _services(given: argparse.Namespace, env: Mapping[str, str]) -> Services:
    return Services(Place.of(given.project, given.region, env), credentials.session(env))


def open_command(given: argparse.Namespace) -> list[str]:
    """Return gcloud's command that lets everybody call the service; where they may already, it changes nothing."""
    command = ["gcloud", "run", "services", "add-iam-policy-binding", given.service]
    command += [f"--project={given.project}", f"--region={given.region}"]
    return [*command, "--member=allUsers", "--role=roles/run.invoker"]


if __name__ == "__main__":
    sys.exit(main())
