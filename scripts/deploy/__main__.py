"""Deploys to Cloud Run: `python -m scripts.deploy submit|local|revision|render`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import yaml

from model.command_line import Parser
from scripts.deploy import build, revision
from scripts.deploy.gcloud import CommandError, NoProjectError, locate, run
from scripts.deploy.release import Release, ReleaseError, fill, revision_name
from scripts.deploy.revision import Deployed
from scripts.deploy.smoke import Unfit, note_unfit, smoke
from scripts.rollout import arguments, credentials, wiring
from scripts.rollout.cloudrun import Place, Services
from scripts.rollout.credentials import CredentialsError
from scripts.rollout.doors import Prober
from scripts.rollout.plan import Plan, PlanError
from scripts.rollout.platform import Conflict, PlatformError
from scripts.rollout.wiring import UsageError

ROOT = Path(__file__).resolve().parents[2]
FILE, SLO = ROOT / "deploy/cloudrun/service.yaml", ROOT / "slo.toml"
FAILED, WRONG, LOST, UNFIT = 1, 2, 3, 4
EXAMPLES = """examples:
  python -m scripts.deploy submit --project my-project --region europe-west1
  python -m scripts.deploy revision --image europe-west1-docker.pkg.dev/my-project/rookery/rookery@sha256:… \\
      --model-uri gs://my-project-rookery-models/penguins/1dbd…905f/ --model-digest sha256:1dbd…905f

exit status: 0 deployed, and it passes its smoke test; 1 it failed; 2 wrong usage; 3 somebody else changed the service
meanwhile; 4 deployed, but it does not pass: a candidate has no traffic, a first revision has all of it"""


def main(given_arguments: Sequence[str] | None = None, env: Mapping[str, str] = os.environ) -> int:
    """Run the command; EXAMPLES has the exit statuses."""
    given = parser().parse_args(given_arguments)
    try:
        locate(given, env)
        {"submit": _submit, "local": _local, "revision": _revision, "render": _render}[given.verb](given, env)
    except Unfit as error:
        return _refuse(UNFIT, str(error))
    except (ReleaseError, NoProjectError, CredentialsError, UsageError, PlanError) as error:
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
    pins = _pins(is_required=True)
    verbs = top.add_subparsers(dest="verb", required=True)
    submit = verbs.add_parser("submit", parents=[where], help="have Cloud Build do everything, from check to rollout")
    submit.add_argument("--bundle", default="", help="gs://…/<digest>/ of a published bundle, instead of training")
    here = verbs.add_parser(
        "local",
        parents=[where, what, _pins(is_required=False)],
        help="train, sign and publish here unless a bundle is given, build with docker here, push, deploy",
    )
    for verb in (submit, here):
        verb.add_argument("--spec", default="model/specs/penguins.toml", help="what to train (default: penguins)")
    one = verbs.add_parser("revision", parents=[where, what, pins], help="deploy an image that is in the registry")
    filled = verbs.add_parser(
        "render", parents=[where, what, pins], help="print the file for `gcloud run services replace`"
    )
    for verb in (one, filled):
        verb.add_argument("--image", required=True, help="image, best by digest")
    return top


def _where() -> Parser:
    where = Parser(add_help=False, parents=[arguments.where()])
    where.add_argument("--json", action="store_true", help="print JSON")
    where.add_argument("--public", action="store_true", help="let everybody call it; else callers need a token")
    return where


def _pins(*, is_required: bool) -> Parser:
    pins = Parser(add_help=False)
    uri = "gs://bucket/prefix/<digest>/ as `make publish` prints it"
    pins.add_argument("--model-uri", default="", required=is_required, help=uri)
    pins.add_argument("--model-digest", default="", required=is_required, help="the bundle's digest: sha256:…")
    pins.add_argument("--model-contract", default="", help="ROOKERY_MODEL_CONTRACT as `make publish` prints it")
    return pins


def _what() -> Parser:
    what = Parser(add_help=False, parents=[arguments.tokens()])
    what.add_argument("--service-account", help="identity of the service (default: rookery-runtime of the project)")
    what.add_argument("--public-key-secret", default="rookery-signing-public", help="secret with the public key")
    what.add_argument("--unsigned", action="store_true", help="serve bundles that are not signed too")
    what.add_argument("--no-sidecar", action="store_true", help="without the sidecar that sends metrics")
    what.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting; repeatable")
    what.add_argument("--no-smoke", dest="smoke", action="store_false", help="deploy without asking the revision")
    what.add_argument("--slo", type=Path, default=SLO, help="what is tolerated of its answers")
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
        project=given.project,
        settings=settings,
        has_sidecar=not given.no_sidecar,
        public_key_secret="" if given.unsigned else given.public_key_secret,
    )


def _render(given: argparse.Namespace, _: Mapping[str, str]) -> None:
    body = fill(yaml.safe_load(given.file.read_text()), _release(given, given.image))
    print(json.dumps(body) if given.json else yaml.safe_dump(body, sort_keys=False).rstrip())


def _revision(given: argparse.Namespace, env: Mapping[str, str]) -> None:
    services = _services(given, env)
    release = _release(given, given.image)
    rules, prober = _prober(given, env) if given.smoke else (None, None)
    made = revision.deploy(services, yaml.safe_load(given.file.read_text()), release)
    if rules and prober:
        _smoke(services, release, made, prober(made.url), rules)
    if given.public:
        run(open_command(given), env)
    _tell(given, cloud_run_url=made.url, candidate_url=made.candidate_url, revision=release.revision)


def _tell(given: argparse.Namespace, **found: str) -> None:
    """Print what was deployed: for a script, or as lines that a shell reads too."""
    print(json.dumps(found) if given.json else "\n".join(f"{name.upper()}={value}" for name, value in found.items()))


def _prober(given: argparse.Namespace, env: Mapping[str, str]) -> tuple[Plan, Callable[[str], Prober]]:
    """Read the bundle and the plan before anything is deployed; returns what asks the service of a URL."""
    given.bundle, given.digest = given.model_uri, given.model_digest
    rules, found = wiring.read_plan(given.slo, "canary"), wiring.bundle(given)
    return rules, lambda url: wiring.prober(given, env, found, url, rules)


def _smoke(services: Services, release: Release, made: Deployed, prober: Prober, rules: Plan) -> None:
    """Ask the new revision; one that is unfit, and has the traffic because it is the first, is noted as such."""
    try:
        smoke(prober, made.candidate_url, release.model_digest, rules)
    except Unfit as error:
        if not made.is_first:
            raise Unfit(f"{release.revision} does not pass its smoke test: {error}; traffic is where it was") from error
        note_unfit(services, release.service, release.revision, str(error), time.time())
        where = "it is the first revision, and all traffic goes there until another one is deployed"
        raise Unfit(f"{release.revision} does not pass its smoke test: {error}; {where}") from error


def _local(given: argparse.Namespace, env: Mapping[str, str]) -> None:
    pins = build.bundle_here(given, env)
    if given.model_digest not in ("", pins["MODEL_DIGEST"]):
        raise ReleaseError(f"{given.model_uri} is {pins['MODEL_DIGEST']}, not {given.model_digest}")
    given.model_uri, given.model_digest = pins["MODEL_URI"], pins["MODEL_DIGEST"]
    given.model_contract = given.model_contract or pins["ROOKERY_MODEL_CONTRACT"]
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
    _tell(given, cloud_run_url=found["status"]["url"])


def _services(given: argparse.Namespace, env: Mapping[str, str]) -> Services:
    return Services(Place.of(given.project, given.region, env), credentials.session(env))


def open_command(given: argparse.Namespace) -> list[str]:
    """Return gcloud's command that lets everybody call the service; where they may already, it changes nothing."""
    command = ["gcloud", "run", "services", "add-iam-policy-binding", given.service]
    command += [f"--project={given.project}", f"--region={given.region}"]
    return [*command, "--member=allUsers", "--role=roles/run.invoker"]


if __name__ == "__main__":
    sys.exit(main())
