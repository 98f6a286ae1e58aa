"""Every example that `/docs` shows works when it is pressed."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect


def open_docs(page: Page, url: str) -> list[str]:
    """Return the ids of all operations that the page shows."""
    page.goto(f"{url}/docs")
    expect(page.locator(".opblock").first).to_be_visible()
    return page.evaluate("[...document.querySelectorAll('.opblock')].map((one) => one.id)")


def press(block: Locator) -> int:
    """Execute what an operation shows, and return the status."""
    block.get_by_role("button", name="Execute").click()
    status = block.locator(".live-responses-table .response .response-col_status")
    expect(status).to_be_visible()
    return int(status.inner_text().split()[0])


def clear(block: Locator) -> None:
    """Take the last answer away."""
    block.get_by_role("button", name="Clear").click()
    expect(block.locator(".live-responses-table")).to_have_count(0)


def test_every_example_works_when_it_is_pressed(look, penguin_server, tell):
    watched = look(penguin_server)
    page = watched.page
    pressed = []
    document = penguin_server.get("/openapi.json").json()
    names = open_docs(page, penguin_server.url)
    groups = page.locator(".opblock-tag")
    expect(groups).to_have_count(len(document["tags"]))
    expect(groups).to_contain_text([tag["description"] for tag in document["tags"]])
    watched.shoot("docs")
    for name in names:
        block = page.locator(f"#{name}")
        block.locator(".opblock-summary-control").click()
        choices = block.locator(".examples-select select")
        for option in choices.locator("option").all_inner_texts() if choices.count() else [""]:
            if option:
                choices.select_option(option)
            pressed.append((name, option, press(block)))
            clear(block)
        block.locator(".opblock-summary-control").click()
    for name, option, status in pressed:
        tell(f"{status} {name} {option}")
    assert [one for one in pressed if not 200 <= one[2] < 300] == []
    operations = sum(method in ("get", "post") for path in document["paths"].values() for method in path)
    assert len({name for name, _, _ in pressed}) == operations


def test_it_is_dark_where_the_reader_is(look, penguin_server):
    watched = look(penguin_server, color_scheme="dark")
    open_docs(watched.page, penguin_server.url)
    red, green, blue = watched.page.evaluate(
        "getComputedStyle(document.body.parentElement).backgroundColor.match(/\\d+/g)"
    )
    assert max(int(red), int(green), int(blue)) < 60
    watched.shoot("docs-dark")
