"""The image: what is in it and what is not, and the service in it under the limits of a small instance."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path
from socket import socket

import pytest

from tests.conftest import Tell
from tests.integration import hostile
from tests.integration.servers import ROOT, exchange, receive

from . import containers
from .conftest import COMMIT, PLANTED, SECRETS, Start
from .containers import Context, Image

pytestmark = pytest.mark.timeout(1200)

SEED = 20_261_122
BODIES = 500
SLOW_EACH = 12
HONEST = 60
CLIENTS = 24
KILLED_AFTER_SECONDS = 10.0
STUCK_SECONDS = 9.5
LIMIT_MB = {"full": 450, "slim": 250}
KEY_MATERIAL = re.compile(rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----(?:\s|\\n)+[A-Za-z0-9+/]{16}")
TOOLS = re.compile(r"(^|/)(pip[0-9.]*|g?cc[0-9.-]*|[cg]\+\+[0-9.-]*|clang|tcc|ld|as|make|apt|apt-get|uv|perl[0-9.]*)$")
BUILDERS = re.compile(r"site-packages/(pip|setuptools|wheel|pkg_resources)(/|-)|/ensurepip/")


@pytest.fixture(params=["full", "slim"])
def image(request: pytest.FixtureRequest) -> Image:
    """Each image."""
    return request.getfixturevalue(request.param)


# --- what is in it


def test_the_dockerfile_is_linted(hadolint: Path) -> None:
    done = subprocess.run([hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("variant", ["full", "slim"])
def test_it_is_small(request: pytest.FixtureRequest, variant: str, tell: Tell) -> None:
    image: Image = request.getfixturevalue(variant)
    table = containers.call("sizes", image.name)
    tell(f"{variant}, at most {LIMIT_MB[variant]} MB:\n{table}")

    found = re.search(r"^all +([0-9.]+) MB$", table, re.MULTILINE)
    assert found is not None
    assert 100 < float(found[1]) <= LIMIT_MB[variant]


def test_no_setuid_file_no_compiler_no_installer_no_tests(image: Image) -> None:
    files = image.files()

    assert len(files) > 2_000
    assert [name for name, file in files.items() if file.kind == "0" and file.mode & 0o6000] == []
    assert [name for name in files if TOOLS.search(name) and re.match(r"(opt/venv|usr(/local)?)?/?s?bin/", name)] == []
    assert [name for name in files if BUILDERS.search(name)] == []
    assert [name for name in files if re.search(r"site-packages/.*/tests?/", name)] == []
    assert [name for name in files if re.search(r"^app/(tests|docs|model/(data|specs))(/|$)", name)] == []


def test_nothing_of_the_program_can_be_written_by_its_user(image: Image) -> None:
    writable = [
        name
        for name, file in image.files().items()
        if name.startswith(("app", "opt", "usr")) and file.kind in "05" and (file.mode & 0o022 or file.owner != (0, 0))
    ]

    # Debian's own, for local fonts and the like, belong to the group staff
    assert [
        name for name in writable if not re.match(r"usr/local/(share|lib/python[0-9.]+/(dist|site)-packages)", name)
    ] == []


@pytest.mark.parametrize("variant", ["full", "slim"])
def test_no_secret_in_any_layer(request: pytest.FixtureRequest, context: Context, variant: str, tmp_path: Path) -> None:
    image: Image = request.getfixturevalue(variant)
    names = {Path(name).name for name in SECRETS}
    found = Counter[str]()
    for name, payload in image.layers(tmp_path):
        found["files"] += 1
        if PLANTED in payload or KEY_MATERIAL.search(payload) or Path(name).name in names:
            found[name] += 1

    assert [name for name in SECRETS if not (context.folder / name).is_file()] == []
    assert found.pop("files") > 2_000
    assert found == {}


def test_every_module_is_compiled_so_that_time_does_not_matter(slim: Image) -> None:
    contents = {name: payload[:8] for name, payload in slim.contents() if name.endswith((".py", ".pyc"))}
    modules = {name for name in contents if re.match(r"app/(service|model)/", name) and name.endswith(".py")}
    compiled = {name: head for name, head in contents.items() if name.endswith(".pyc")}

    assert len(modules) > 40
    for name in modules:
        folder, _, file = name.rpartition("/")
        assert any(re.fullmatch(rf"{folder}/__pycache__/{file[:-3]}\.cpython-\d+\.pyc", other) for other in compiled)
    assert any(name.startswith("opt/venv/") for name in compiled)
    assert any(name.startswith("usr/local/") for name in compiled)
    # PEP 552: hash-based and never checked
    assert {head[4:8] for head in compiled.values()} == {b"\x01\0\0\0"}


def test_it_says_what_it_is(full: Image, digest: str) -> None:
    config = full.config()
    labels = config["Labels"]

    assert labels["org.opencontainers.image.revision"] == COMMIT
    assert labels["org.opencontainers.image.created"] == "2023-11-14T22:13:20Z"
    assert labels["org.opencontainers.image.base.name"] != ""
    assert labels["rookery.bundle.digest"] == f"sha256:{digest}"
    assert config["Cmd"] == ["gunicorn", "-c", "service/gunicorn_conf.py"]
    assert config["User"] == "10001:10001"


@pytest.mark.parametrize(("variant", "pins"), [("full", "requirements.txt"), ("slim", "requirements-slim.txt")])
def test_its_sbom_lists_what_is_pinned_and_the_system(request: pytest.FixtureRequest, variant: str, pins: str) -> None:
    image: Image = request.getfixturevalue(variant)
    document = json.loads(image.read("app/sbom.cdx.json"))
    installed = {part["name"]: part["version"] for part in document["components"] if "pkg:pypi/" in part["purl"]}
    pinned: dict[str, set[str]] = {}
    for name, pin in re.findall(r"^([a-z0-9-]+)==([^ ;]+)", (ROOT / pins).read_text(), re.MULTILINE):
        # several where they depend on the version of Python
        pinned.setdefault(name, set()).add(pin)

    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    assert {name: version for name, version in installed.items() if version not in pinned[name]} == {}
    # what is pinned for other systems only is not there
    assert pinned.keys() - installed.keys() <= {"colorama", "nvidia-nccl-cu12", "xgboost", "xgboost-cpu"}
    assert ("scipy" in installed) == ("scipy" in pinned)
    assert any(part["purl"].startswith("pkg:deb/debian/libc6@") for part in document["components"])
    assert b"unknown" not in image.read("app/licences.txt")


def test_two_builds_give_the_same_files(context: Context, slim: Image) -> None:
    again = Image("localhost/rookery-test:again")
    context.build(again.name, "--no-cache", VARIANT="slim", BUNDLE="bundles/penguins", COMMIT=COMMIT)
    first, second = slim.files(), again.files()
    containers.call("engine", "rmi", "--force", again.name)

    assert sorted(first) == sorted(second)
    assert {name: (file, second[name]) for name, file in first.items() if file != second[name]} == {}


def test_damaged_bundle_is_not_baked_in(context: Context, slim: Image, digest: str) -> None:
    model = context.folder / "bundles/penguins" / digest / "model.onnx"
    payload = model.read_bytes()
    model.write_bytes(payload[:-1] + bytes([payload[-1] ^ 1]))
    try:
        with pytest.raises(AssertionError, match=r"hash_mismatch|sha256"):
            context.build("localhost/rookery-test:damaged", VARIANT="slim", BUNDLE="bundles/penguins")
    finally:
        model.write_bytes(payload)


# --- the service in it


def test_it_serves_hardened_as_process_1(image: Image, start: Start, digest: str, tell: Tell) -> None:
    container = start(image).wait_until_ready()
    answer = container.predict(hostile.VALID[0])
    status = dict(line.split(":\t", 1) for line in container.run("cat", "/proc/1/status").splitlines() if ":\t" in line)

    assert (answer.status, answer.json()["label"]) == (200, "Adelie")
    assert answer.json()["model"]["digest"] == f"sha256:{digest}"
    assert json.loads(container.get("/version").body)["commit"] == COMMIT
    assert "gunicorn" in container.run("cat", "/proc/1/cmdline")
    assert set(status["Uid"].split()) == {"10001"}
    assert {status[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapInh")} == {"0000000000000000"}
    assert status["NoNewPrivs"].strip() == "1"
    for folder in ("/", "/app", "/opt/venv", "/var"):
        assert "Read-only" in container.run("touch", f"{folder}/x", check=False)
    started = next(json.loads(line) for line in container.log().splitlines() if "service.started" in line)
    tell(f"ready after {started['total_seconds']} s")


def test_sagemaker_starts_it_with_serve_and_a_model_of_its_own(
    slim: Image, start: Start, context: Context, digest: str, tell: Tell
) -> None:
    model = context.folder / "bundles/penguins" / digest
    container = start(slim, "serve", model, MODEL_DIGEST=f"sha256:{digest}", ROOKERY_BAKED_BUNDLE="/nowhere")
    container.wait_for("/ping", 200)
    answer = container.post("/invocations", b"39.1,18.7,181,3750\n", "text/csv")
    limits = json.loads(container.get("/execution-parameters").body)

    assert [one["label"] for one in answer.json()["predictions"]] == ["Adelie"]
    assert (limits["BatchStrategy"], limits["MaxPayloadInMB"]) == ("MULTI_RECORD", 8)
    assert "gunicorn" in container.run("cat", "/proc/1/cmdline")
    assert "/opt/ml/model" in container.run("cat", "/proc/1/environ")
    container.terminate()
    assert container.ends_within(KILLED_AFTER_SECONDS)
    tell(f"serve: {answer.status} from /opt/ml/model, ended with {container.status()}")
    assert container.status() == 0


def test_it_reports_to_nobody(full: Image, start: Start) -> None:
    container = start(full).wait_until_ready()
    assert container.predict(hostile.VALID[0]).status == 200
    # connections that are neither listening nor to us, from the kernel's tables
    tables = container.run("cat", "/proc/net/tcp", "/proc/net/tcp6")

    assert "ORT_DISABLE_TELEMETRY=1" in full.config()["Env"]
    assert "telemetry" not in container.log().lower()
    assert f":{container.port:04X} " in tables


def test_xgboost_stands_in_where_it_is_installed(full: Image, slim: Image, start: Start) -> None:
    container = start(full, ENGINE="xgboost").wait_until_ready()
    assert container.predict(hostile.VALID[0]).json()["label"] == "Adelie"

    refused = start(slim, ENGINE="xgboost", ALLOW_FALLBACK="false")
    assert refused.wait_for("/health/live", 200).status == 200
    assert refused.get("/health/ready").json()["reason"] == "engine_refused"


def test_a1_malformed_bodies_never_give_a_5xx(full: Image, start: Start, tell: Tell) -> None:
    container = start(full).wait_until_ready()
    statuses = Counter[int]()
    found = list(hostile.bodies(BODIES, SEED))
    for first in range(0, BODIES, 50):
        with closing(container.connect()) as connection:
            for query, body in found[first : first + 50]:
                with closing(container.connect()) as own:
                    # a large body after small ones on one connection is another test's matter
                    used = connection if len(body) < 32 << 10 else own
                    statuses[exchange(used, "POST", f"/predict{query}", body).status] += 1
    tell(f"A1: {BODIES} bodies: {dict(sorted(statuses.items()))}")

    assert [status for status in statuses if status >= 500] == []
    assert {200, 400, 422} <= set(statuses)
    assert container.log().count("Booting worker") == 1
    assert container.predict(hostile.VALID[0]).status == 200


def test_b2_slow_clients_keep_nobody_waiting(full: Image, start: Start, tell: Tell) -> None:
    container = start(full).wait_until_ready()
    whole = request(hostile.VALID[0])
    beginnings = [
        b"",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nX-",
        whole[:-1],
        b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n",
    ]
    with ExitStack() as open_connections:
        slow: list[socket] = []
        for beginning in beginnings * SLOW_EACH:
            slow.append(open_connections.enter_context(container.open_socket()))
            slow[-1].sendall(beginning)
        answers = [container.predict(hostile.VALID[index % 3]).status for index in range(HONEST)]
        for index, beginning in enumerate(beginnings * SLOW_EACH):
            if beginning == whole[:-1]:
                slow[index].sendall(whole[-1:])
                answers.append(receive(slow[index]).status)
    tell(f"B2: {len(slow)} slow connections: {Counter(answers)}")

    assert answers == [200] * (HONEST + SLOW_EACH)


def test_l1_sigterm_loses_none_in_flight_and_ends_with_status_0(full: Image, start: Start, tell: Tell) -> None:
    container = start(full).wait_until_ready()
    whole = request(hostile.VALID[1])
    with ExitStack() as open_connections:
        clients = [open_connections.enter_context(container.open_socket()) for _ in range(CLIENTS)]
        for client in clients:
            client.sendall(whole[:-1])
        # answered after the bodies above were read, so the service knows of the requests
        assert container.get("/health/live").status == 200
        began = time.monotonic()
        container.terminate()
        for client in clients:
            client.sendall(whole[-1:])
        answers = [receive(client).status for client in clients]
    assert container.ends_within(KILLED_AFTER_SECONDS - (time.monotonic() - began))
    tell(f"L1: {len(answers)} in flight: {Counter(answers)}, gone after {time.monotonic() - began:.1f} s")

    assert answers == [200] * CLIENTS
    assert container.status() == 0


def test_l3_sigterm_does_not_wait_for_a_body_that_never_ends(full: Image, start: Start, tell: Tell) -> None:
    container = start(full).wait_until_ready()
    whole = request(hostile.VALID[0])
    with container.open_socket() as stuck, container.open_socket() as honest:
        stuck.sendall(whole[:-1])
        honest.sendall(whole[:-1])
        assert container.get("/health/live").status == 200
        began = time.monotonic()
        container.terminate()
        honest.sendall(whole[-1:])
        assert receive(honest).status == 200
        ended = container.ends_within(STUCK_SECONDS)
    tell(f"L3: gone after {time.monotonic() - began:.1f} s with status {container.status()}")

    assert ended
    assert container.status() == 0


def test_idle_it_stops_with_status_0(image: Image, start: Start) -> None:
    container = start(image).wait_until_ready()
    container.terminate()

    assert container.ends_within(KILLED_AFTER_SECONDS)
    assert container.status() == 0


def test_wrong_setting_stops_it_with_one_line_that_names_it(slim: Image, start: Start) -> None:
    container = start(slim, ROOKERY_WORKER="2")

    assert container.ends_within(KILLED_AFTER_SECONDS)
    assert container.status() == 2
    assert container.log().splitlines() == ["error: ROOKERY_WORKER is not a setting; did you mean ROOKERY_WORKERS?"]


def request(body: bytes) -> bytes:
    return b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
