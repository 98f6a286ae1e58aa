"""What a project needs: each step asks whether it is done, and says how it is done; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

APIS = (
    "run",
    "cloudbuild",
    "artifactregistry",
    "ondemandscanning",
    "secretmanager",
    "cloudkms",
    "iam",
    "iamcredentials",
    "sts",
    "storage",
    "monitoring",
    "logging",
    "cloudtrace",
    "telemetry",
    "bigquery",
)
RUNTIME_ROLES = (
    "roles/monitoring.metricWriter",
    "roles/cloudtrace.agent",
    "roles/telemetry.tracesWriter",
    "roles/logging.logWriter",
)
BUILD_ROLES = (
    "roles/run.developer",
    "roles/run.invoker",
    "roles/logging.logWriter",
    "roles/monitoring.viewer",
    # a controller says that it is there
    "roles/monitoring.metricWriter",
    "roles/ondemandscanning.admin",
)
RETENTION_DAYS = 30


@dataclass(frozen=True)
class Step:
    """One thing to set up.

    Attributes:
        name: what it is, for people.
        ask: command that tells whether it is there.
        do: command that makes it.
        expected: lines that `ask` must print, among others; none if its exit status says it all.
        stdin: what `do` reads from its standard input: `private` or `public` for that half of the signing key,
            `run-monitoring` for the configuration of the metrics sidecar, else empty.
    """

    name: str
    ask: tuple[str, ...]
    do: tuple[str, ...]
    expected: tuple[str, ...] = ()
    stdin: str = ""


def account(name: str, project: str) -> str:
    """Return the e-mail of one of our service accounts."""
    return f"rookery-{name}@{project}.iam.gserviceaccount.com"


def steps(project: str, region: str, github: str = "") -> tuple[Step, ...]:
    """Return everything in order.

    Args:
        project: the project's id.
        region: where all of it lives.
        github: `owner/name` of the repository that deploys; empty sets up neither identity nor trigger for it.
    """
    parts = [_apis(project), *_stores(project, region), *_accounts(project)]
    parts += [*_rights(project, region), *_keys(project, region), *_events(project, region)]
    if github:
        parts += [*_identity(project, github), _trigger(project, region, github)]
    return tuple(parts)


def last_rights(project: str, github: str, writer: str, number: str) -> tuple[Step, ...]:
    """Return the rights of those who have names only once everything else is there.

    Args:
        project: the project's id.
        github: as for `steps`.
        writer: the log sink's identity, with `serviceAccount:` before it.
        number: the project's number.
    """
    found = [right(project, ("projects",), project, "roles/bigquery.dataEditor", writer)]
    if github:
        member = f"principalSet://iam.googleapis.com/{pool(number)}/attribute.repository/{github}"
        people = ("iam", "service-accounts")
        found.append(right(project, people, account("build", project), "roles/iam.workloadIdentityUser", member))
    return tuple(found)


def pool(number: str) -> str:
    """Return the name of our pool of workload identities in the project of a number."""
    return f"projects/{number}/locations/global/workloadIdentityPools/rookery"


def _gcloud(project: str, *words: str) -> tuple[str, ...]:
    return ("gcloud", *words, f"--project={project}", "--quiet")


def _apis(project: str) -> Step:
    names = [f"{name}.googleapis.com" for name in APIS]
    ask = _gcloud(project, "services", "list", "--enabled", "--format=value(config.name)")
    return Step("APIs", ask, _gcloud(project, "services", "enable", *names), tuple(names))


def _stores(project: str, region: str) -> list[Step]:
    registry = ("artifacts", "repositories")
    where = f"--location={region}"
    found = [
        Step(
            "image repository rookery",
            _gcloud(project, *registry, "describe", "rookery", where),
            _gcloud(project, *registry, "create", "rookery", where, "--repository-format=docker"),
        )
    ]
    # a retention policy and versions exclude each other in a bucket; what is deleted can be brought back for so long,
    # and nobody here has the right to overwrite or delete
    for kind, more in (("models", (f"--soft-delete-duration={RETENTION_DAYS}d",)), ("build", ())):
        address = f"gs://{project}-rookery-{kind}"
        made = ("storage", "buckets", "create", address, where, "--uniform-bucket-level-access")
        do = _gcloud(project, *made, "--public-access-prevention", *more)
        found.append(Step(f"bucket {address}", _gcloud(project, "storage", "buckets", "describe", address), do))
    address = f"gs://{project}-rookery-models"
    shown = _gcloud(project, "storage", "buckets", "describe", address, "--format=value(versioning_enabled)")
    do = _gcloud(project, "storage", "buckets", "update", address, "--versioning")
    return [*found, Step(f"versions in {address}", shown, do, ("True",))]


def _accounts(project: str) -> list[Step]:
    found = []
    for name, text in (("runtime", "Rookery serves"), ("build", "Rookery builds and rolls out")):
        describe = _gcloud(project, "iam", "service-accounts", "describe", account(name, project))
        create = _gcloud(project, "iam", "service-accounts", "create", f"rookery-{name}", f"--display-name={text}")
        found.append(Step(f"service account {account(name, project)}", describe, create))
    return found


def _rights(project: str, region: str) -> list[Step]:
    runtime, build = account("runtime", project), account("build", project)
    models, sources = f"gs://{project}-rookery-models", f"gs://{project}-rookery-build"
    where = f"--location={region}"
    registry = ("artifacts", "repositories")
    buckets = ("storage", "buckets")
    people = ("iam", "service-accounts")
    found = [right(project, ("projects",), project, role, runtime) for role in RUNTIME_ROLES]
    found += [right(project, ("projects",), project, role, build) for role in BUILD_ROLES]
    return [
        *found,
        right(project, buckets, models, "roles/storage.objectViewer", runtime),
        right(project, buckets, models, "roles/storage.objectCreator", build),
        right(project, buckets, models, "roles/storage.objectViewer", build),
        right(project, buckets, sources, "roles/storage.objectViewer", build),
        right(project, registry, "rookery", "roles/artifactregistry.writer", build, where),
        right(project, people, runtime, "roles/iam.serviceAccountUser", build),
    ]


def right(project: str, kind: Sequence[str], name: str, role: str, who: str, *where: str) -> Step:
    """Return the step that gives somebody a role on one thing; `kind` is gcloud's group of commands for it."""
    member = who if ":" in who else f"serviceAccount:{who}"
    # not all of these commands know --filter; one that holds only on a condition is shown with the condition's name
    shown = 'value[separator=" "](bindings.role,bindings.members,bindings.condition.title)'
    ask = ("gcloud", *kind, "get-iam-policy", name, *where, "--flatten=bindings[].members", f"--format={shown}")
    do = ("gcloud", *kind, "add-iam-policy-binding", name, *where, f"--member={member}", f"--role={role}")
    if kind != ("projects",):
        ask, do = (*ask, f"--project={project}"), (*do, f"--project={project}")
    else:
        do = (*do, "--condition=None")
    return Step(f"{role} on {name} for {member}", (*ask, "--quiet"), (*do, "--quiet"), (f"{role} {member}",))


def _keys(project: str, region: str) -> list[Step]:
    secrets = ("secrets",)
    found = []
    for name, stdin, readers in (
        ("rookery-signing-key", "private", ("build",)),
        # the build verifies a bundle that it was given
        ("rookery-signing-public", "public", ("runtime", "build")),
        ("rookery-run-monitoring", "run-monitoring", ("runtime",)),
    ):
        made = _gcloud(project, "secrets", "create", name, "--replication-policy=automatic", "--data-file=-")
        found.append(Step(f"secret {name}", _gcloud(project, "secrets", "describe", name), made, stdin=stdin))
        role = "roles/secretmanager.secretAccessor"
        found += [right(project, secrets, name, role, account(who, project)) for who in readers]
    where = f"--location={region}"
    ring = ("--keyring=rookery", where)
    kind = ("--purpose=asymmetric-signing", "--default-algorithm=ec-sign-p256-sha256")
    return [
        *found,
        Step(
            "key ring rookery",
            _gcloud(project, "kms", "keyrings", "describe", "rookery", where),
            _gcloud(project, "kms", "keyrings", "create", "rookery", where),
        ),
        Step(
            "key image-signing",
            _gcloud(project, "kms", "keys", "describe", "image-signing", *ring),
            _gcloud(project, "kms", "keys", "create", "image-signing", *ring, *kind),
        ),
        # signing needs the newest version's number, and so the right to see them
        *(
            right(project, ("kms", "keys"), "image-signing", role, account("build", project), *ring)
            for role in ("roles/cloudkms.signerVerifier", "roles/cloudkms.viewer")
        ),
    ]


def _events(project: str, region: str) -> list[Step]:
    table = f"bigquery.googleapis.com/projects/{project}/datasets/rookery_events"
    wanted = 'resource.type="cloud_run_revision" AND jsonPayload.message="prediction.made"'
    make = ("logging", "sinks", "create", "rookery-predictions", table, f"--log-filter={wanted}")
    return [
        Step(
            "dataset rookery_events",
            ("bq", f"--project_id={project}", "show", "rookery_events"),
            ("bq", f"--project_id={project}", f"--location={region}", "mk", "--dataset", "rookery_events"),
        ),
        Step(
            "log sink rookery-predictions",
            _gcloud(project, "logging", "sinks", "describe", "rookery-predictions"),
            _gcloud(project, *make, "--use-partitioned-tables"),
        ),
    ]


def _identity(project: str, github: str) -> list[Step]:
    pool = ("iam", "workload-identity-pools")
    place = ("--location=global", "--workload-identity-pool=rookery")
    create = _gcloud(
        project,
        *pool,
        "providers",
        "create-oidc",
        "github",
        *place,
        "--issuer-uri=https://token.actions.githubusercontent.com",
        "--attribute-mapping=google.subject=assertion.sub,attribute.repository=assertion.repository,"
        "attribute.ref=assertion.ref",
        f"--attribute-condition=assertion.repository=='{github}' && assertion.ref=='refs/heads/main'",
    )
    return [
        Step(
            "workload identity pool rookery",
            _gcloud(project, *pool, "describe", "rookery", "--location=global"),
            _gcloud(project, *pool, "create", "rookery", "--location=global"),
        ),
        Step(
            f"identity of {github}, branch main",
            _gcloud(project, *pool, "providers", "describe", "github", *place),
            create,
        ),
    ]


def _trigger(project: str, region: str, github: str) -> Step:
    owner, _, name = github.partition("/")
    where = f"--region={region}"
    made = ("builds", "triggers", "create", "github", "--name=rookery-main", where)
    source = (
        f"--repo-owner={owner}",
        f"--repo-name={name}",
        "--branch-pattern=^main$",
        "--build-config=cloudbuild.yaml",
    )
    runs = f"--service-account=projects/{project}/serviceAccounts/{account('build', project)}"
    return Step(
        "Cloud Build trigger on push to main",
        _gcloud(project, "builds", "triggers", "describe", "rookery-main", where),
        _gcloud(project, *made, *source, runs, f"--substitutions=_REGION={region}"),
    )
