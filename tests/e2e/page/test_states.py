"""The page is understood when there is no model, when another one stands in, and when it changes."""

from __future__ import annotations

import shutil

import pytest
from playwright.sync_api import Route, expect

from tests.integration.servers import Server


@pytest.fixture(scope="module")
def damaged(bundles, tmp_path_factory):
    """A bundle whose model file has lost its end."""
    folder = tmp_path_factory.mktemp("damaged") / bundles["penguins"].name
    shutil.copytree(bundles["penguins"], folder)
    part = folder / "model.json"
    part.chmod(0o644)
    part.write_bytes(part.read_bytes()[:-1])
    return folder


@pytest.fixture(scope="module")
def unready_server(fleet, damaged) -> Server:
    """A service without a model."""
    server = fleet.start({"MODEL_URI": str(damaged), "ALLOW_FALLBACK": "false"})
    server.wait_until("/health/live", 200)
    return server


def test_without_a_model_the_page_says_so_and_why(look, unready_server):
    watched = look(unready_server, refusals=(503,))
    page = watched.open()
    expect(page.locator("#state")).to_have_text("Not ready")
    expect(page.locator(".empty h2")).to_have_text("No model yet")
    expect(page.locator(".empty code")).to_have_text(unready_server.get("/model").json()["reason"])
    watched.shoot("not-ready")


def test_the_page_goes_on_by_itself_when_there_is_a_model(look, unready_server, penguin_server):
    page = look(penguin_server, refusals=(503,)).page
    answers = iter([unready_server.get("/model")])

    def first_refused(route: Route) -> None:
        answer = next(answers, None)
        if answer is None:
            route.continue_()
        else:
            route.fulfill(status=answer.status, body=answer.body, content_type=answer.content_type)

    page.route("**/model", first_refused)
    page.goto(penguin_server.url)
    expect(page.locator("#state")).to_have_text("Not ready")
    expect(page.locator(".headline strong")).to_have_text("Adelie")
    expect(page.locator("#state")).to_have_text("Ready")


def test_a_fallback_is_named_with_the_reason(look, fleet, damaged, bundles):
    server = fleet.start({"MODEL_URI": str(damaged), "MODEL_FALLBACK_URI": str(bundles["penguins"])})
    server.wait_until("/health/ready", 200)
    watched = look(server)
    page = watched.open()
    expect(page.locator("#state")).to_have_text("A fallback answers")
    expect(page.locator("#notices")).to_contain_text("Another model stands in")
    expect(page.locator("#notices code")).to_have_text(server.get("/model").json()["attempts"][0]["code"])
    expect(page.locator(".headline strong")).to_have_text("Adelie")
    watched.shoot("fallback")


def test_an_answer_from_another_model_is_noticed(look, penguin_server):
    page = look(penguin_server).page
    other = {**penguin_server.get("/model").json(), "digest": "sha256:" + 64 * "0"}
    page.route("**/model", lambda route: route.fulfill(json=other))
    page.goto(penguin_server.url)
    expect(page.locator("#notices")).to_contain_text("The last answer came from another model")


def test_a_service_that_is_gone_is_noticed(look, fleet, bundles):
    server = fleet.start({"MODEL_URI": str(bundles["penguins"])})
    server.wait_until("/health/ready", 200)
    watched = look(server)
    page = watched.open()
    expect(page.locator(".headline strong")).to_be_visible()
    server.stop()
    page.get_by_role("button", name="Gentoo").click()
    expect(page.locator("form .notice")).to_contain_text("The service does not answer")
    assert watched.wrong
    # the browser's own word for it
    assert {text.rpartition("net::")[2] for text in watched.wrong} == {"ERR_CONNECTION_REFUSED"}
    watched.wrong.clear()


def test_switched_off_there_is_no_page(fleet, bundles):
    server = fleet.start({"MODEL_URI": str(bundles["penguins"]), "ROOKERY_PAGE": "false"})
    server.wait_until("/health/ready", 200)
    assert server.get("/").status == 404


def test_the_model_card_shows_how_good_the_model_is(look, penguin_server):
    watched = look(penguin_server)
    page = watched.open("#model")
    quality = penguin_server.get("/model").json()["quality"]
    accuracy = quality["model"]["accuracy"]
    expect(page.locator("#panel-model")).to_contain_text(
        f"({accuracy['low']:.1%} to {accuracy['high']:.1%})".replace("%", " %")
    )
    cells = [int(text.replace(",", "")) for text in page.locator(".cell").all_inner_texts()]
    assert cells == [n for row in quality["confusion"] for n in row]
    bins = [one for one in quality["calibration"] if one["count"]]
    expect(page.locator(".calibration circle")).to_have_count(len(bins))
    watched.shoot("model")


def test_the_traffic_says_what_moved_and_which_way(look, penguin_server):
    assert penguin_server.predict(penguin_server.get("/model").json()["examples"][0]["instance"]).status == 200
    told = penguin_server.get("/model/drift").json()
    features = [one for one in told["variables"] if one["kind"] == "feature"]
    [label] = [one for one in told["variables"] if one["kind"] == "label"]
    for one, moved in zip(features, (None, 1.24, -0.5, 0.04), strict=True):
        shift = None if moved is None else {"moved": moved, "z": 9.0, "p": 0.0}
        one |= {"verdict": "steady" if moved is None else "drifting", "psi": 0.3, "shift": shift}
    label |= {"verdict": "drifting", "psi": None, "shift": None}
    told |= {"verdict": "drifting", "rows": 1200}
    features[0] |= {"verdict": "too_few", "rows": 1, "minimum_rows": 20}

    page = look(penguin_server).page
    page.route("**/model/drift", lambda route: route.fulfill(json=told))
    page.goto(f"{penguin_server.url}/#drift")
    expect(page.locator(".tally")).to_have_text("1,200 rows: unlike the training data")
    said = dict(zip(*(page.locator(f".variable > {tag}").all_inner_texts() for tag in ("h3", "p")), strict=True))
    assert said["Bill length mm"] == "1 of the 20 rows it takes to say"
    assert said["Bill depth mm"] == (
        "unlike the training data, on average higher by 1.2 standard deviations (PSI 0.30)"
    )
    assert said["Flipper length mm"] == (
        "unlike the training data, on average lower by 0.5 standard deviations (PSI 0.30)"
    )
    assert said["Body mass g"] == (
        "unlike the training data, about the same on average, but spread otherwise (PSI 0.30)"
    )
    assert said["Answers"] == "unlike the training data"
    # what drifts comes first, and the classes stand below their bars
    assert sorted(list(said)[:4]) == ["Answers", "Bill depth mm", "Body mass g", "Flipper length mm"]
    assert page.locator(".drift-axis.named").inner_text().split() == ["Adelie", "Chinstrap", "Gentoo"]


def test_the_traffic_is_shown_as_it_comes(look, penguin_server):
    watched = look(penguin_server)
    rows = [one["instance"] for one in penguin_server.get("/model").json()["examples"]]
    assert penguin_server.predict({"instances": rows}).status == 200
    page = watched.open("#drift")
    drift = penguin_server.get("/model/drift").json()
    expect(page.locator(".variable")).to_have_count(len(drift["variables"]))
    expect(page.locator(".tally")).to_contain_text("rows: ")
    watched.shoot("drift")
