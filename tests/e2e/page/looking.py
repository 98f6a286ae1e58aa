"""One browser, and pages of it that notice what must not happen: an error in the console, a request to another host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.integration.servers import ROOT

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SHOTS = ROOT / "build/screenshots"
DEADLINE_MS = 20_000
# the browser itself notes every answer above 399 in the console; what the service says is checked by the tests
REFUSED = "Failed to load resource: the server responded with a status of "

DESK = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Start Chromium once; nothing of it reaches beyond this machine."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Watched:
    """A page under watch.

    Attributes:
        page: Playwright's.
        url: of the service.
        refusals: statuses above 399 that the test asks for on purpose.
        wrong: what was noticed.
    """

    page: Page
    url: str
    refusals: set[int]
    wrong: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Begin to notice."""
        host = urlsplit(self.url).netloc
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.wrong.append(f"uncaught: {error}"))

        def on_request(request: Any) -> None:
            parts = urlsplit(request.url)
            if parts.scheme in ("http", "https", "ws", "wss") and parts.netloc != host:
                self.wrong.append(f"asked another host: {request.url}")

        self.page.on("request", on_request)

    def _on_console(self, message: ConsoleMessage) -> None:
        text = message.text
        if text.startswith(REFUSED) and int(text.removeprefix(REFUSED)[:3]) in self.refusals:
            return
        if message.type in ("error", "warning"):
            self.wrong.append(f"console: {text}")

    def open(self, part: str = "") -> Page:
        """Go to the page, or to a part of it."""
        self.page.goto(f"{self.url}/{part}")
        return self.page

    def shoot(self, name: str) -> Path:
        """Keep a picture of the whole page."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        path = SHOTS / f"{name}.png"
        self.page.screenshot(path=path, full_page=True, animations="disabled")
        return path
