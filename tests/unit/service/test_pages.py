"""The documentation page is served whole from here and refers to nobody else."""

from __future__ import annotations

import re

import pytest

from service.pages import ASSETS
from tests.unit.service.calls import request


@pytest.mark.parametrize("path", ["/docs", "/docs/"])
def test_the_page_is_served_with_and_without_a_slash(penguins_app, path):
    answered = request(penguins_app, "GET", path)
    assert (answered.status, answered.header("Content-Type")) == (200, "text/html; charset=utf-8")
    assert b'<html lang="en">' in answered.body


def test_the_page_refers_to_no_other_host(penguins_app):
    pages = [request(penguins_app, "GET", path).body.decode() for path in ("/docs", "/docs/start.js")]
    targets = [target for page in pages for target in re.findall(r'(?:src|href)="([^"]*)"|url: "([^"]*)"', page)]
    assert len(targets) == 6
    assert all(re.fullmatch(r"/[^/].*", first or second) for first, second in targets)
    assert not any("//" in page for page in pages)


def test_everything_the_page_refers_to_is_served(penguins_app):
    page = request(penguins_app, "GET", "/docs").body.decode()
    for target in re.findall(r'(?:src|href)="([^"]*)"', page):
        assert request(penguins_app, "GET", target).status == 200


def test_the_browser_is_told_to_load_nothing_from_elsewhere_and_no_inline_script(penguins_app):
    policy = request(penguins_app, "GET", "/docs").header("Content-Security-Policy") or ""
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert (rules["default-src"], rules["script-src"], rules["connect-src"]) == ("'none'", "'self'", "'self'")
    assert not re.search(r"https?:|\*", policy)


@pytest.mark.parametrize("name", sorted(ASSETS))
def test_every_asset_is_served_and_may_be_kept(penguins_app, name):
    answered = request(penguins_app, "GET", f"/docs/assets/{name}")
    assert (answered.status, len(answered.body) > 0) == (200, True)
    assert "max-age=86400" in (answered.header("Cache-Control") or "")


@pytest.mark.parametrize(
    "path",
    [
        "/docs/assets/../../pages.py",
        "/docs/assets/..%2f__init__.py",
        "/docs/assets/../__init__.py",
        "/docs/assets//etc/passwd",
        "/docs/assets/swagger-ui.css/../index.html",
        "/docs/assets/index.html",
        "/docs/assets/swagger-ui.js",
        "/docs/assets/..\\__init__.py",
        "/docs/assets/swagger-ui.css\x00",
        "/docs/assets/",
        "/docs/assets",
    ],
)
def test_nothing_else_is_served(penguins_app, path):
    answered = request(penguins_app, "GET", path)
    assert (answered.status, answered.json["type"]) == (404, "urn:rookery:problem:not-found")


def test_the_document_is_the_same_every_time(penguins_app):
    first, second = (request(penguins_app, "GET", "/openapi.json") for _ in range(2))
    assert (first.status, first.header("Content-Type")) == (200, "application/json")
    assert first.body == second.body


def test_the_page_is_there_without_a_model(unready_app):
    assert request(unready_app, "GET", "/docs").status == 200
