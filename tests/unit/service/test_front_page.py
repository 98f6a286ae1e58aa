"""The page at `/` is whole, comes from this service alone, and can be switched off."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from service import front_page
from service.app import create_app
from service.config import Settings
from tests.unit.service.calls import request

REFERENCE = re.compile(r'(?:src|href)="([^"#]*)"')


@pytest.fixture
def page(penguins_app) -> str:
    """The page's HTML."""
    return request(penguins_app, "GET", "/").body.decode()


def assets_of(page: str) -> list[str]:
    """Return the addresses of the page's own files."""
    return [target for target in REFERENCE.findall(page) if target.startswith("assets/")]


def test_the_page_is_html_that_is_asked_for_again_each_time(penguins_app):
    answered = request(penguins_app, "GET", "/")
    assert (answered.status, answered.header("Content-Type")) == (200, "text/html; charset=utf-8")
    assert answered.header("Cache-Control") == "no-cache"


def test_every_file_of_the_page_is_served_and_kept_for_ever(penguins_app, page):
    found = {target.rpartition("/")[2] for target in assets_of(page)}
    assert found == set(front_page.assets().files) - {"index.html"}
    for target in assets_of(page):
        answered = request(penguins_app, "GET", f"/{target}")
        assert (answered.status, answered.header("Cache-Control")) == (200, front_page.FOR_EVER)
        assert answered.header("Content-Type") == front_page.KINDS["." + target.rpartition(".")[2]]


def test_the_addresses_change_when_a_file_changes(page):
    version = front_page.assets().version
    assert re.fullmatch("[0-9a-f]{16}", version)
    assert all(target.startswith(f"assets/{version}/") for target in assets_of(page))


def test_modules_import_what_is_served(penguins_app):
    version, files = front_page.assets()
    imports = {name for content in files.values() for name in re.findall(rb'from "\./([\w.]+)"', content)}
    assert imports
    for name in imports:
        assert request(penguins_app, "GET", f"/assets/{version}/{name.decode()}").status == 200


def test_another_revisions_address_is_answered_but_not_kept(penguins_app):
    answered = request(penguins_app, "GET", "/assets/0123456789abcdef/main.js")
    assert (answered.status, answered.header("Cache-Control")) == (200, "no-store")


@pytest.mark.parametrize("name", ["index.html", "front_page.py", "..%2fapp.py", "../app.py", "", "main.js/"])
def test_nothing_else_is_served(penguins_app, name):
    assert request(penguins_app, "GET", f"/assets/{front_page.assets().version}/{name}").status == 404


def test_nothing_refers_to_another_host_and_nothing_is_inline(page):
    texts = [content.decode() for content in front_page.assets().files.values()]
    hosts = {host for text in texts for host in re.findall(r"(?:https?:)?//([a-z][\w.-]+\.[a-z]+)", text)}
    # the name of the SVG language is not an address
    assert hosts <= {"www.w3.org"}
    assert not re.search(r"<style|style=|<script(?![^>]*src=)|\son\w+=", page)


def test_no_text_becomes_html():
    scripts = [content for name, content in front_page.assets().files.items() if name.endswith(".js")]
    assert not any(re.search(rb"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", s) for s in scripts)


@pytest.mark.parametrize("path", ["/", "/assets/x/main.js", "/assets/x/style.css"])
def test_the_browser_is_told_to_load_and_run_nothing_else(penguins_app, path):
    answered = request(penguins_app, "GET", path)
    rules = dict(rule.strip().split(" ", 1) for rule in (answered.header("Content-Security-Policy") or "").split(";"))
    assert (rules["default-src"], rules["script-src"], rules["style-src"]) == ("'none'", "'self'", "'self'")
    assert not re.search(r"unsafe|https?:|\*", str(rules))
    assert answered.header("X-Content-Type-Options") == "nosniff"


def test_the_page_is_there_without_a_model(unready_app):
    assert request(unready_app, "GET", "/").status == 200


@pytest.mark.parametrize("path", ["/", "/assets/x/main.js"])
def test_the_page_can_be_switched_off(answerer, path):
    app = create_app(replace(Settings(), page=False), answerer)
    assert (request(app, "GET", path).status, request(app, "GET", "/docs").status) == (404, 200)


def test_the_files_are_small():
    sizes = {name: len(content) for name, content in front_page.assets().files.items()}
    assert sum(sizes.values()) < 100_000
    assert {name: size for name, size in sizes.items() if size > 16_000} == {}
