"""Real servers, a real browser, and a page that is checked when its test is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from model import dataset, spec, train
from tests.conftest import NO_BAR
from tests.integration.conftest import Fleet
from tests.integration.servers import ROOT, Server
from tests.unit.model import toy

from .looking import DEADLINE_MS, DESK, Watched, running_browser

Look = Callable[..., Watched]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium."""
    expect.set_options(timeout=DEADLINE_MS)
    with running_browser() as browser:
        yield browser


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """All servers; stopped at the end of the session."""
    with Fleet(tmp_path_factory.mktemp("servers")) as fleet:
        yield fleet


@pytest.fixture(scope="session")
def penguin_server(fleet: Fleet, bundles: dict[str, Path]) -> Server:
    """The penguins, with every setting as it ships."""
    return fleet.shared({"MODEL_URI": str(bundles["penguins"])})


@pytest.fixture(scope="session")
def toy_server(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A model with a number, a whole number and two categories, each of which may be unknown."""
    root = tmp_path_factory.mktemp("toy")
    loaded = spec.load(toy.write(root, names=toy.MIXED, nullable=True))
    folder = train.train(loaded, dataset.load(loaded), NO_BAR, root, quiet=True).folder
    return fleet.shared({"MODEL_URI": str(folder)})


@pytest.fixture
def look(browser: Browser) -> Iterator[Look]:
    """Server and options of a browser context → a page; what must not happen fails the test at its end."""
    with ExitStack() as stack:

        def look(server: Server, refusals: tuple[int, ...] = (), **options: Any) -> Watched:
            return stack.enter_context(_watched(browser, server, refusals, options))

        yield look


@contextmanager
def _watched(browser: Browser, server: Server, refusals: tuple[int, ...], options: dict[str, Any]) -> Iterator[Watched]:
    """A page of its own, without anything kept from before."""
    context = browser.new_context(**{"viewport": DESK, **options})
    context.set_default_timeout(DEADLINE_MS)
    watched = Watched(context.new_page(), server.url, set(refusals))
    watched.watch()
    yield watched
    context.close()
    assert watched.wrong == []


@pytest.fixture(scope="session")
def axe() -> str:
    """The accessibility checker's source."""
    return (ROOT / "build/axe/node_modules/axe-core/axe.min.js").read_text()
