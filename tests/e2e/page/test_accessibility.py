"""axe-core finds nothing serious or critical, in any part, state or scheme."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from .looking import DESK, PHONE

SERIOUS = ("serious", "critical")
ROWS = "bill_length_mm,bill_depth_mm,flipper_length_mm,body_mass_g\n39.1,18.7,181,3750\n39.1,18.7,7.13,3750\n"


def findings(page: Page, axe: str) -> list[str]:
    """Return what axe-core finds: impact, rule, and the first place of each."""
    page.evaluate(axe)
    found = page.evaluate("axe.run()")
    assert len(found["passes"]) > 10
    return [f"{one['impact']} {one['id']} {one['nodes'][0]['target']}" for one in found["violations"]]


@pytest.mark.parametrize(
    ("scheme", "screen"), [("light", DESK), ("dark", DESK), ("dark", PHONE)], ids=["light", "dark", "phone"]
)
@pytest.mark.parametrize("part", ["try", "refused", "file", "model", "drift"])
def test_every_part_is_accessible(look, penguin_server, axe, part, scheme, screen, tell):
    options = {"color_scheme": scheme, "viewport": screen, "bypass_csp": True, "reduced_motion": "reduce"}
    watched = look(penguin_server, refusals=(400, 404), **options)
    page = watched.open("" if part == "refused" else f"#{part}")
    expect(page.locator("#state")).to_have_text("Ready")
    if part == "refused":
        page.fill("#field-flipper_length_mm", "7.13")
        expect(page.locator(".accept")).to_be_visible()
    if part == "try":
        page.locator("summary").click()
        page.get_by_role("button", name="A doubtful one").click()
        expect(page.locator(".set.open")).to_be_visible()
    if part == "file":
        page.set_input_files("#csv", files=[{"name": "a.csv", "mimeType": "text/csv", "buffer": ROWS.encode()}])
        expect(page.locator(".tally")).to_be_visible()
    found = findings(page, axe)
    tell(f"axe-core, {part}, {scheme}, {screen['width']} wide: {len(found)} findings {found}")
    assert [finding for finding in found if finding.startswith(SERIOUS)] == []
