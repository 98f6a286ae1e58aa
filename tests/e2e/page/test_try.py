"""The form predicts while it is changed, shows refusals beside the field, and says why."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from playwright.sync_api import Page, expect

from .looking import PHONE

ADELIE = {"bill_length_mm": "39.1", "bill_depth_mm": "18.7", "flipper_length_mm": "181", "body_mass_g": "3750"}


def fill(page: Page, values: dict[str, str]) -> None:
    """Write values into the fields."""
    for name, text in values.items():
        page.fill(f"#field-{name}", text)


def shares(page: Page) -> list[str]:
    """Return the written probabilities."""
    return page.locator(".bars .value").all_inner_texts()


def test_the_form_is_filled_and_answered_at_once(look, penguin_server):
    watched = look(penguin_server)
    page = watched.open()
    expect(page.locator("h1")).to_contain_text("penguin")
    expect(page.locator(".headline")).to_contain_text("Adelie")
    expect(page.locator("#state")).to_have_text("Ready")
    watched.shoot("try-light")


def test_the_answer_is_the_services_own(look, penguin_server):
    page = look(penguin_server).open()
    fill(page, {**ADELIE, "bill_length_mm": "46.5"})
    found = penguin_server.predict(
        {**{k: float(v) for k, v in ADELIE.items()}, "bill_length_mm": 46.5}, "?explain=true"
    ).json()
    expect(page.locator(".headline strong")).to_have_text(found["label"])
    expect(page.locator(".bars .top .value")).to_have_text(
        f"{found['probabilities'][found['label']]:.1%}".replace("%", " %")
    )
    # base, every feature, and what they add up to
    steps = page.locator(".waterfall .value").all_inner_texts()
    values = [float(text.replace("−", "-")) for text in steps]
    assert abs(sum(values[:-1]) - values[-1]) < 0.05
    assert abs(values[-1] - sum(found["contributions"].values())) < 0.01


def test_bars_move_with_the_slider(look, penguin_server):
    page = look(penguin_server).open()
    fill(page, ADELIE)
    expect(page.locator(".headline strong")).to_have_text("Adelie")
    slider = page.get_by_label("Bill length, slider")
    slider.fill("50")
    expect(page.locator("#field-bill_length_mm")).to_have_value("50")
    expect(page.locator(".headline strong")).to_have_text("Chinstrap")
    expect(page.locator(".field[data-feature=bill_length_mm] .bin.here")).to_have_count(1)


@pytest.mark.parametrize("label", ["Adelie", "Chinstrap", "Gentoo"])
def test_an_example_of_each_class_is_a_click_away(look, penguin_server, label):
    page = look(penguin_server).open()
    page.get_by_role("button", name=label, exact=True).click()
    expect(page.locator(".headline strong")).to_have_text(label)


def test_what_cannot_be_ruled_out_and_what_is_unusual_is_said(look, penguin_server):
    page = look(penguin_server).open()
    page.get_by_role("button", name="A doubtful one").click()
    expect(page.locator(".set")).to_have_class("set open")
    fill(page, {**ADELIE, "body_mass_g": "9500"})
    expect(page.locator(".novelty")).to_have_class("novelty is-novel")
    expect(page.locator("#field-body_mass_g-place")).to_contain_text("Outside what is plausible")


def test_a_refusal_stands_beside_its_field_and_its_suggestion_is_a_click_away(look, penguin_server):
    watched = look(penguin_server, refusals=(400, 422))
    page = watched.open()
    fill(page, {**ADELIE, "flipper_length_mm": "7.13", "body_mass_g": "heavy", "bill_depth_mm": ""})
    expect(page.locator("#field-flipper_length_mm-error")).to_contain_text("in inches it would be 181.1 mm")
    expect(page.locator("#field-body_mass_g-error")).to_contain_text("Must be a number")
    expect(page.locator("#field-bill_depth_mm-error")).to_contain_text("Required: bill depth in mm")
    expect(page.locator("#field-bill_length_mm-error")).to_be_hidden()
    expect(page.locator(".headline")).to_contain_text("3 values cannot be used")
    watched.shoot("try-refused")
    page.get_by_role("button", name="Body mass must be a number").click()
    expect(page.locator("#field-body_mass_g")).to_be_focused()
    page.get_by_role("button", name="Use 181.1 mm").click()
    expect(page.locator("#field-flipper_length_mm")).to_have_value("181.1")
    fill(page, {"body_mass_g": "3750", "bill_depth_mm": "18.7"})
    expect(page.locator(".headline strong")).to_have_text("Adelie")
    expect(page.locator(".error:visible")).to_have_count(0)


@pytest.mark.parametrize("text", ["39,1", "1e999", "0x10", "NaN", "<img src=x onerror=alert(1)>"])
def test_what_is_no_number_is_refused_by_the_service(look, penguin_server, text):
    page = look(penguin_server, refusals=(400, 422)).open()
    fill(page, {**ADELIE, "bill_length_mm": text})
    expect(page.locator("#field-bill_length_mm-error")).to_contain_text("Must be a number, not a string")


def test_lists_whole_numbers_and_unknown_values_work(look, toy_server):
    watched = look(toy_server, refusals=(400, 422))
    page = watched.open()
    expect(page.locator(".headline strong")).to_contain_text("kind")
    page.select_option("#field-colour", "blue")
    page.check("#field-shape-null")
    expect(page.locator("#field-shape")).to_be_disabled()
    page.fill("#field-legs", "2.5")
    expect(page.locator("#field-legs-error")).to_contain_text("whole number")
    page.fill("#field-legs", "3")
    expect(page.locator(".headline strong")).to_contain_text("kind")
    watched.shoot("try-every-kind-of-feature")
    page.locator("summary").click()
    expect(page.locator("pre").nth(1)).to_contain_text('"shape": None,')
    expect(page.locator("pre").nth(0)).to_contain_text('"colour":"blue"')


def test_the_shown_commands_do_what_the_page_did(look, penguin_server):
    page = look(penguin_server).open()
    fill(page, ADELIE)
    page.locator("summary").click()
    expect(page.locator("pre").nth(0)).to_contain_text("3750")
    curl, python = page.locator("pre").all_inner_texts()
    said = subprocess.run(["sh", "-c", f"{curl} --silent --fail"], capture_output=True, text=True, check=True).stdout
    printed = subprocess.run([sys.executable, "-c", python], capture_output=True, text=True, check=True).stdout
    expected = penguin_server.predict({k: float(v) for k, v in ADELIE.items()}, "?explain=true").json()
    assert json.loads(said) == expected
    assert eval(printed) == expected


def test_everything_can_be_done_from_the_keyboard(look, penguin_server):
    page = look(penguin_server, refusals=(404,)).open()
    expect(page.locator(".headline strong")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Tab")
    for tab in ("file", "model", "drift", "try"):
        page.keyboard.press("ArrowRight")
        expect(page.locator(f"#tab-{tab}")).to_be_focused()
        expect(page.locator(f"#panel-{tab}")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="API")).to_be_focused()
    for _ in range(3):
        page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Gentoo", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".headline strong")).to_have_text("Gentoo")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.locator("#field-bill_length_mm")).to_be_focused()
    before = float(page.input_value("#field-bill_length_mm"))
    page.keyboard.press("ArrowUp")
    assert float(page.input_value("#field-bill_length_mm")) == pytest.approx(before + 0.1)
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert float(page.input_value("#field-bill_length_mm")) == pytest.approx(before + 0.2, abs=0.06)


@pytest.mark.parametrize("part", ["", "#file", "#model", "#drift"])
def test_nothing_is_wider_than_a_phone(look, penguin_server, part):
    watched = look(penguin_server, refusals=(404,), viewport=PHONE, has_touch=True, is_mobile=True)
    page = watched.open(part)
    expect(page.locator("#state")).to_have_text("Ready")
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    watched.shoot(f"phone-{part.removeprefix('#') or 'try'}")


def test_on_a_phone_the_answer_stays_in_sight(look, penguin_server):
    page = look(penguin_server, viewport=PHONE, has_touch=True, is_mobile=True).open()
    expect(page.locator(".peek")).to_be_in_viewport()
    expect(page.locator(".peek")).to_contain_text("Adelie")


def test_dark_is_dark(look, penguin_server):
    watched = look(penguin_server, color_scheme="dark")
    page = watched.open()
    expect(page.locator(".headline strong")).to_be_visible()
    red, green, blue = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert max(red, green, blue) < 40
    watched.shoot("try-dark")
