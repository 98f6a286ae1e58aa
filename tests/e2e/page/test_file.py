"""A CSV goes in, its answers come out, and each bad row says why."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.integration.servers import ROOT

from .looking import Watched

HEADER = "nest,bill_length_mm,bill_depth_mm,flipper_length_mm,body_mass_g"
GOOD = "39.1,18.7,181,3750"


def upload(page: Page, text: str | bytes, name: str = "birds.csv") -> None:
    """Give the page a file."""
    raw = text.encode() if isinstance(text, str) else text
    page.set_input_files("#csv", files=[{"name": name, "mimeType": "text/csv", "buffer": raw}])


def opened(watched: Watched) -> Page:
    """Return the page at its part for files."""
    page = watched.open("#file")
    expect(page.locator("#csv")).to_be_visible()
    return page


def saved(page: Page, button: str) -> tuple[str, list[dict[str, str]]]:
    """Press a button, and return the name and the rows of what is downloaded."""
    with page.expect_download() as found:
        page.get_by_role("button", name=button).click()
    text = Path(found.value.path()).read_bytes().decode()
    return found.value.suggested_filename, list(csv.DictReader(io.StringIO(text, newline="")))


def test_the_round_trip(look, penguin_server):
    watched = look(penguin_server)
    page = opened(watched)
    rows = [
        f'"east, ""old""",{GOOD}',
        '"two\nlines",39.1,18.7,7.13,3750',
        f"plain,{GOOD.replace('3750', 'heavy')}",
        "short,39.1,18.7",
        f" kept as it is ,{GOOD}",
        "unknown,39.1,NA,181,",
    ]
    upload(page, "\ufeff" + "\r\n".join([HEADER, *rows]) + "\r\n")
    expect(page.locator(".tally")).to_have_text("2 of 6 rows answered, 4 are bad")
    assert page.locator(".problems li").all_inner_texts() == [
        "Line 3 flipper_length_mm: 7.13 is not a plausible flipper length in mm; in inches it would be 181.1 mm",
        "Line 5 body_mass_g: must be a number, not a string",
        "Line 6 has 3 cells, the header 5",
        "Line 8 bill_depth_mm: must not be null: bill depth in mm; body_mass_g: must not be null: body mass in g",
    ]
    watched.shoot("file")
    name, answers = saved(page, "Download the answers")
    assert name == "birds-answers.csv"
    assert [row["nest"] for row in answers] == [
        'east, "old"', "two\nlines", "plain", "short", " kept as it is ", "unknown",
    ]  # fmt: skip
    assert [row["label"] for row in answers] == ["Adelie", "", "", "", "Adelie", ""]
    assert [bool(row["error"]) for row in answers] == [False, True, True, True, False, True]
    names = HEADER.split(",")[1:]
    expected = penguin_server.predict(dict(zip(names, map(float, GOOD.split(",")), strict=True))).json()
    for label, share in expected["probabilities"].items():
        assert float(answers[0][f"probability_{label}"]) == share


def test_a_large_file_goes_in_batches(look, penguin_server):
    page = opened(look(penguin_server))
    sent = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    upload(page, (ROOT / "model/data/penguins.csv").read_text())
    expect(page.locator(".tally")).to_have_text("342 of 344 rows answered, 2 are bad")
    upload(page, f"{HEADER}\n" + f"x,{GOOD}\n" * 1201)
    expect(page.locator(".tally")).to_have_text("1,201 of 1,201 rows answered")
    batches = [url for url in sent if url.endswith("?on_error=row")]
    assert len(batches) == 4
    _, answers = saved(page, "Download the answers")
    assert len(answers) == 1201


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is no row under the header"),
        (HEADER, "there is no row under the header"),
        ("a,b\n1,2\n", "the header lacks bill_length_mm, bill_depth_mm, flipper_length_mm, body_mass_g"),
        (f"{HEADER},body_mass_g\nx,{GOOD},1\n", "the header has body_mass_g twice"),
        (f'{HEADER}\n"open,{GOOD}\n', "line 2: a quote is opened and never closed"),
        (f'{HEADER}\nx,{GOOD}\n"a"b,{GOOD}\n', "line 3: there is more text after a closing quote"),
    ],
    ids=["empty", "header-only", "other-columns", "column-twice", "open-quote", "text-after-quote"],
)
def test_a_file_that_cannot_be_read_says_why(look, penguin_server, text, said):
    page = opened(look(penguin_server))
    upload(page, text)
    expect(page.locator(".outcome .notice")).to_contain_text(said)


@pytest.mark.parametrize("mark", [";", "\t"], ids=["semicolon", "tab"])
def test_other_separators_are_understood(look, penguin_server, mark):
    page = opened(look(penguin_server))
    upload(page, f"{HEADER}\nx,{GOOD}\n".replace(",", mark))
    expect(page.locator(".tally")).to_have_text("1 of 1 rows answered")


def test_the_example_can_be_filled_in_and_sent_back(look, toy_server):
    page = opened(look(toy_server))
    name, rows = saved(page, "Download an example to fill in")
    assert name == "toy-example.csv"
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows([*rows, {**rows[0], "colour": "", "legs": "NA"}, {**rows[0], "colour": "pink"}])
    upload(page, text.getvalue())
    expect(page.locator(".tally")).to_have_text(f"{len(rows) + 1} of {len(rows) + 2} rows answered, 1 is bad")
    expect(page.locator(".problems li")).to_contain_text("colour: must be one of red, green, blue")
