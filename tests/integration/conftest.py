"""Real servers for every test that needs one: each set of settings is started once a session."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from model import predictor
from model.predictor import Predictor
from model.verify import VerifiedBundle

from . import servers
from .servers import Server

Start = Callable[..., Server]
Shared = Callable[[Mapping[str, str]], Server]

COMBINATIONS = [
    pytest.param({"FAST_PATH": "true"}, id="fast-tables"),
    pytest.param({"FAST_PATH": "false"}, id="plain-tables"),
    pytest.param({"FAST_PATH": "true", "ENGINE": "onnx"}, id="fast-onnx"),
    pytest.param({"FAST_PATH": "true", "ENGINE": "xgboost"}, id="fast-xgboost"),
    pytest.param({"FAST_PATH": "false", "ENGINE": "xgboost"}, id="plain-xgboost"),
]


class Fleet:
    """Every server of the session; those that are done shut down while the next tests run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._all: list[Server] = []
        self._shared: dict[frozenset[tuple[str, str]], Server] = {}

    def start(self, settings: Mapping[str, str], **options: object) -> Server:
        folder = self._folder / str(len(self._all))
        folder.mkdir()
        # what one server downloads, and whether it was killed, is nothing to another one unless a test says so
        own = {"MODEL_CACHE_DIR": str(folder / "cache"), "ROOKERY_BAKED_BUNDLE": str(folder / "no-bundle")}
        server = servers.start({**own, **settings}, folder, **options)
        self._all.append(server)
        return server

    def shared(self, settings: Mapping[str, str]) -> Server:
        key = frozenset(settings.items())
        if key not in self._shared:
            server = self._shared[key] = self.start(settings)
            server.wait_until("/health/ready", 200)
        return self._shared[key]

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._all:
            server.send_signal(signal.SIGTERM)
        for server in self._all:
            server.stop()


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """All servers; stopped at the end of the session."""
    with Fleet(tmp_path_factory.mktemp("servers")) as fleet:
        yield fleet


@pytest.fixture(scope="session")
def shared(fleet: Fleet) -> Shared:
    """Settings → a ready server that other tests use too."""
    return fleet.shared


@pytest.fixture
def start(fleet: Fleet) -> Iterator[Start]:
    """Settings → a server of one's own, not waited for, told to stop when the test ends."""
    started: list[Server] = []

    def start(settings: Mapping[str, str], **options: object) -> Server:
        started.append(fleet.start(settings, **options))
        return started[-1]

    yield start
    for server in started:
        server.send_signal(signal.SIGTERM)


@pytest.fixture(params=COMBINATIONS)
def combination(request: pytest.FixtureRequest) -> dict[str, str]:
    """Each way to serve: short door or Flask alone, each engine."""
    return request.param


@pytest.fixture
def penguin_server(combination: dict[str, str], shared: Shared, bundles: dict[str, Path]) -> Server:
    """A ready server of the penguins, in every combination."""
    return shared({**combination, "MODEL_URI": str(bundles["penguins"])})


@pytest.fixture(scope="session")
def fast_server(shared: Shared, bundles: dict[str, Path]) -> Server:
    """A ready server of the penguins as it is by default."""
    return shared({"FAST_PATH": "true", "MODEL_URI": str(bundles["penguins"])})


@pytest.fixture(scope="session")
def plain_server(shared: Shared, bundles: dict[str, Path]) -> Server:
    """A ready server of the penguins without any short cut."""
    return shared({"FAST_PATH": "false", "MODEL_URI": str(bundles["penguins"])})


@pytest.fixture(scope="session")
def penguin_predictors(penguins: VerifiedBundle) -> dict[str, Predictor]:
    """The penguins in process, by engine."""
    return {name: predictor.load(penguins, name) for name in ("tables", "onnx", "xgboost")}


@pytest.fixture
def penguin_predictor(combination: dict[str, str], penguin_predictors: dict[str, Predictor]) -> Predictor:
    """The penguins in process, on the engine of the combination."""
    return penguin_predictors[combination.get("ENGINE", "tables")]


# the shortest there is, so that the tests need not wait for long
SHORT = {
    "ROOKERY_HEADER_SECONDS": "1",
    "ROOKERY_BODY_SECONDS": "1",
    "ROOKERY_IDLE_SECONDS": "1",
    "ROOKERY_WRITE_SECONDS": "1",
}


@pytest.fixture
def hasty_server(start: Start, bundles: dict[str, Path]) -> Server:
    """A ready server of one's own that waits for no client longer than a second."""
    server = start({"MODEL_URI": str(bundles["penguins"]), **SHORT})
    server.wait_until("/health/ready", 200)
    return server
