"""Two images, built once a session, and containers that are gone when their test is over."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from model import bundle as bundles_on_disk
from model import dataset, spec, train
from tests.conftest import NO_BAR, quick_spec
from tests.integration.servers import ROOT

from .containers import Container, Context, Image

# minutes and root, or a browser: collected only when they are named
collect_ignore = ["test_container.py", "test_pod.py", "page"]

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PLANTED = b"planted-" + b"4f1c9b7e"
SECRETS = [".env", "service/.env.local", "service/signing.pem", "model/id_ed25519", "model/my-service-account.json"]

Start = Callable[..., Container]


@pytest.fixture(scope="session")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """The repository with a trained bundle, and with secrets where people leave them."""
    context = Context.copy(tmp_path_factory.mktemp("context"))
    loaded = spec.load(quick_spec("penguins", tmp_path_factory.mktemp("spec")))
    train.train(loaded, dataset.load(loaded), NO_BAR, context.folder / "bundles", quiet=True)
    for name in SECRETS:
        (context.folder / name).write_bytes(PLANTED)
    return context


@pytest.fixture(scope="session")
def digest(context: Context) -> str:
    """The digest of the bundle that is baked in."""
    return bundles_on_disk.bare((context.folder / "bundles/penguins/current").read_text().strip())


@pytest.fixture(scope="session")
def slim(context: Context, digest: str) -> Image:
    """The image without XGBoost, with a bundle."""
    image = Image("localhost/rookery-test:slim")
    context.build(image.name, VARIANT="slim", BUNDLE="bundles/penguins", COMMIT=COMMIT, SOURCE_DATE_EPOCH="1700000000")
    return image


@pytest.fixture(scope="session")
def full(context: Context, slim: Image) -> Image:
    """The whole image, with a bundle; the slim one is built first, as its layers are used again."""
    image = Image("localhost/rookery-test:full")
    context.build(image.name, BUNDLE="bundles/penguins", COMMIT=COMMIT, SOURCE_DATE_EPOCH="1700000000")
    return image


@pytest.fixture
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    """Image and settings → a container that is removed when the test ends."""
    started: list[Container] = []

    def start(image: Image, command: str = "", model: Path | None = None, **settings: str) -> Container:
        started.append(Container.start(image, f"rookery-test-{len(started)}", settings, command, model))
        return started[-1]

    yield start
    for container in started:
        container.remove()


@pytest.fixture(scope="session")
def hadolint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The linter of Dockerfiles, from its hashed requirement, in an environment of its own."""
    environment = tmp_path_factory.mktemp("hadolint")
    uv = ROOT / ".venv/bin/uv"
    subprocess.run([uv, "venv", "--quiet", environment / "venv"], check=True)
    command = [uv, "pip", "install", "--quiet", "--python", environment / "venv", "--require-hashes"]
    subprocess.run([*command, "--requirement", ROOT / "tests/e2e/requirements.txt"], check=True)
    return environment / "venv/bin/hadolint"
