"""A cell of a CSV means the same in training, in `model.predict` and at `POST /invocations`."""

from __future__ import annotations

import csv
import json
import math
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from flask import Flask

from model import dataset, predict, predictor, spec, train, verify
from model.errors import DataError
from service import front_page
from service.answer import Answerer
from service.app import create_app
from service.config import Settings
from service.loader import Ready
from tests.conftest import NO_BAR
from tests.unit.service.calls import Answered, request

HEADER = ["age", "count", "plan", "income", "churn"]
GOOD = {"age": "40.5", "count": "3", "plan": "Two year", "income": "55.25", "churn": "no"}
SPEC = """
name = "customers"
version = "1"
serial = 1
title = "Customers"
label = "churn"
seed = 1
intended_use = "Tests."
limits = ["None."]
[data]
path = "customers.csv"
source = "made up"
licence = "CC0-1.0"
null = ["", "NA", " ? ", "-999"]
[split]
folds = 3
repeats = 1
[algorithm]
name = "xgboost"
rounds = 12
[algorithm.params]
max_depth = 4
[[features]]
name = "age"
description = "Age"
hard = [-1000, 100000]
plausible = [0, 100]
nullable = true
[[features]]
name = "count"
description = "Contracts"
dtype = "int"
hard = [-1000, 100000]
plausible = [0, 100]
nullable = true
[[features]]
name = "plan"
description = "Plan"
dtype = "category"
values = ["Month", "One year", "Two year", "nan", "12", "None"]
nullable = true
null = ["", "?"]
[[features]]
name = "income"
description = "Income"
hard = [-1000, 100000]
plausible = [0, 100]
"""

MISSING, REFUSED = "missing", "refused"
LONG = "0." + "1" * 499

# what stands in the file → its meaning for a number and a whole number, both nullable, and a number that is not
NUMBERS = {
    "12": 12.0,
    " 12 ": 12.0,
    "\t12": 12.0,
    "\u00a012": 12.0,
    '"12"': 12.0,
    '" 12\n"': 12.0,
    "+5": 5.0,
    "-5": -5.0,
    "5.": 5.0,
    "5.0": 5.0,
    "1e2": 100.0,
    "1E+2": 100.0,
    "007": 7.0,
    "1e-999": 0.0,
    "": MISSING,
    "  ": MISSING,
    '""': MISSING,
    "NA": MISSING,
    '" NA "': MISSING,
    "?": MISSING,
    " ?": MISSING,
    "-999": MISSING,
    "-999.0": -999.0,
    "na": REFUSED,
    "nan": REFUSED,
    "NaN": REFUSED,
    "null": REFUSED,
    "None": REFUSED,
    "inf": REFUSED,
    "-Infinity": REFUSED,
    "1e999": REFUSED,
    "1_000": REFUSED,
    '"1,000"': REFUSED,
    "1 000": REFUSED,
    "1'000": REFUSED,
    "１２": REFUSED,
    "١٢": REFUSED,
    "0x10": REFUSED,
    "1d5": REFUSED,
    "True": REFUSED,
    "12%": REFUSED,
    "1\x002": REFUSED,
    "\ufeff12": REFUSED,
    "--5": REFUSED,
    ".": REFUSED,
    "1e": REFUSED,
    LONG: REFUSED,
}
FRACTIONS = {".5": 0.5, "1e-1": 0.1, "0." + "1" * 60: 0.1111111111}
TEXTS = {
    "Two year": "Two year",
    " Two year ": "Two year",
    '"Two year"': "Two year",
    '" Two year "': "Two year",
    "12": "12",
    "12.0": REFUSED,
    "nan": "nan",
    "None": "None",
    "NaN": REFUSED,
    "NA": REFUSED,
    "-999": REFUSED,
    "": MISSING,
    '""': MISSING,
    " ? ": MISSING,
    "two year": REFUSED,
    "Two  year": REFUSED,
    '"""Two year"""': REFUSED,
    "Two\x00year": REFUSED,
}
CASES = [
    *[(name, cell, meaning) for name in ("age", "count", "income") for cell, meaning in NUMBERS.items()],
    *[("age", cell, meaning) for cell, meaning in FRACTIONS.items()],
    *[("count", cell, REFUSED) for cell in FRACTIONS],
    *[("plan", cell, meaning) for cell, meaning in TEXTS.items()],
]


class Customers(NamedTuple):
    """A model of customers, its file and its application."""

    folder: Path
    bundle: Path
    app: Flask


def rows(count: int = 240) -> list[dict[str, str]]:
    """Return rows in which all four columns say something about the class."""
    random = np.random.default_rng(5)
    found = []
    for index in range(count):
        age, contracts, income = random.uniform(0, 90), random.integers(0, 9), random.uniform(0, 90)
        plan = random.integers(0, 6)
        score = sum(map(int, (age > 35, contracts > 3, income > 50, plan > 2))) + random.random() / 2
        words = ("Month", "One year", "Two year", "nan", "12", "None")
        found.append(
            {
                "age": "?" if index % 9 == 0 else f"{age:.1f}",
                "count": " NA" if index % 11 == 0 else f"{contracts}",
                "plan": "?" if index % 7 == 0 else words[plan],
                "income": f"{income:.1f}",
                "churn": "yes" if score > 2 else "no",
            }
        )
    return found


def as_csv(table: list[dict[str, str]], names: list[str] | None = None) -> str:
    """Return rows as they stand in a file; cells bring their own quotation marks."""
    names = HEADER if names is None else names
    return "\n".join([",".join(names), *(",".join(row[name] for name in names) for row in table)]) + "\n"


@pytest.fixture(scope="module")
def customers(tmp_path_factory: pytest.TempPathFactory) -> Customers:
    """The model, trained once."""
    folder = tmp_path_factory.mktemp("customers")
    (folder / "customers.toml").write_text(SPEC)
    (folder / "customers.csv").write_text(as_csv(rows()))
    loaded = spec.load(folder / "customers.toml")
    bundle = train.train(loaded, dataset.load(loaded), NO_BAR, folder, quiet=True).folder
    ready = Ready(predictor.load(verify.read(bundle)))
    return Customers(folder, bundle, create_app(Settings(), Answerer(ready, Settings())))


def in_training(folder: Path, text: str, name: str) -> object:
    """Return what training reads in the last row of a file that it reads a column of."""
    (folder / "customers.toml").write_text(SPEC)
    (folder / "customers.csv").write_bytes(text.encode())
    lines = text.count("\n") - 1
    try:
        found = dataset.load(spec.load(folder / "customers.toml"))
    except DataError as error:
        return REFUSED if error.column == name else error
    if found.dropped_lines:
        assert [line for line in found.dropped_lines if line < lines] == []
        return MISSING
    at = [feature.name for feature in found.features].index(name)
    value = float(found.matrix[-1, at])
    if math.isnan(value):
        assert sum(found.missing[name].values()) == sum(np.isnan(found.matrix[:, at]))
        return MISSING
    return found.features[at].values[int(value)] if found.features[at].is_category else value


def scored(customers: Customers, folder: Path, text: str) -> list[dict[str, str]]:
    """Return the rows that `model.predict` writes."""
    (folder / "in.csv").write_bytes(text.encode())
    predict.main([str(customers.bundle), str(folder / "in.csv"), str(folder / "out.csv")])
    with open(folder / "out.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def invoked(customers: Customers, text: str | bytes) -> Answered:
    """Send CSV to the service."""
    body = text if isinstance(text, bytes) else text.encode()
    return request(customers.app, "POST", "/invocations", body, CONTENT_TYPE="text/csv")


def by_json(customers: Customers, **changes: object) -> Answered:
    """Send one instance as JSON."""
    row = {"age": 40.5, "count": 3, "plan": "Two year", "income": 55.25, **changes}
    return request(customers.app, "POST", "/predict", json.dumps(row).encode(), CONTENT_TYPE="application/json")


@pytest.mark.parametrize(("name", "cell", "meaning"), CASES, ids=lambda value: ascii(value)[:24])
def test_a_cell_has_one_meaning(customers, tmp_path, name, cell, meaning):
    row = {**GOOD, name: cell}
    given = {"age": float, "count": float, "income": float, "plan": str}[name]
    complete = [{**r, "age": r["age"].replace("?", "1"), "count": r["count"].replace("NA", "1")} for r in rows()]

    trained = in_training(tmp_path, as_csv([*complete, row]), name)
    control, written = scored(customers, tmp_path, as_csv([GOOD, row]))
    answer = invoked(customers, as_csv([GOOD, row]))

    assert trained == (pytest.approx(meaning) if isinstance(meaning, float) else meaning)
    assert (control["error"], control["label"] in ("yes", "no")) == ("", True)
    if meaning == REFUSED or (meaning == MISSING and name == "income"):
        assert (written["label"], answer.status) == ("", 400)
        assert name in written["error"]
        assert ("required" in written["error"]) == (meaning == MISSING)
        assert ("must not be null" in answer.body.decode()) == (meaning == MISSING)
        return
    expected = by_json(customers, **{name: None if meaning == MISSING else given(meaning)})
    assert (written["error"], answer.status, expected.status) == ("", 200, 200)
    share = expected.json["probabilities"]["yes"]
    assert answer.json["predictions"][1]["probabilities"]["yes"] == float(written["probability_yes"]) == share


def test_the_file_a_model_was_trained_on_is_answered_whole(customers, tmp_path):
    text = (customers.folder / "customers.csv").read_text()
    assert text.count("?") > 50

    written, answer = scored(customers, tmp_path, text), invoked(customers, text)

    assert [row["error"] for row in written] == [""] * 240
    assert answer.status == 200
    shares = [one["probabilities"]["yes"] for one in answer.json["predictions"]]
    assert shares == [float(row["probability_yes"]) for row in written]
    # the other column of the file is named, not read
    assert "churn" in str(answer.header("warning"))


TABLES: dict[str, tuple[Callable[[str], str], bool]] = {
    "as it is": (lambda text: text, True),
    "byte order mark": (lambda text: "\ufeff" + text, True),
    "two byte order marks": (lambda text: "\ufeff\ufeff" + text, False),
    "carriage return and line feed": (lambda text: text.replace("\n", "\r\n"), True),
    "carriage return alone": (lambda text: text.replace("\n", "\r"), True),
    "empty lines": (lambda text: "\n" + text.replace("\n", "\n\n"), True),
    "no end of the last line": (lambda text: text.rstrip("\n"), True),
    "a separator at the end of every line": (lambda text: text.replace("\n", ",\n"), True),
    "a separator at the end of the rows": (lambda text: text.replace("\n", ",\n").replace("churn,", "churn", 1), False),
    "spaces around": (lambda text: text.replace(",", " , "), True),
    "other order": (lambda _: as_csv(rows(), list(reversed(HEADER))), True),
    "a column twice": (lambda text: text.replace("churn", "age", 1), False),
    "a column is missing": (lambda text: text.replace("age", "old", 1), False),
    "semicolons": (lambda text: text.replace(",", ";"), False),
    "a quote that does not end": (lambda text: text.replace("\n", '\n"', 1), False),
    "text after a quote": (lambda text: text.replace(",no", ',"n"o', 1), False),
    "spaces before a quote": (lambda text: text.replace("One year", ' "One year"', 1), False),
}


@pytest.mark.parametrize(("change", "is_taken"), TABLES.values(), ids=TABLES)
def test_a_file_is_read_or_refused_everywhere(customers, tmp_path, change, is_taken):
    text = change(as_csv(rows()))
    (tmp_path / "customers.toml").write_text(SPEC)
    (tmp_path / "customers.csv").write_bytes(text.encode())
    (tmp_path / "in.csv").write_bytes(text.encode())

    try:
        trained = dataset.load(spec.load(tmp_path / "customers.toml"))
    except DataError:
        trained = None
    status = predict.main([str(customers.bundle), str(tmp_path / "in.csv"), str(tmp_path / "out.csv")])
    answer = invoked(customers, text)

    assert (trained is not None, status == 0, answer.status == 200) == (is_taken, is_taken, is_taken)
    if trained is not None:
        assert len(trained.labels) == len(answer.json["predictions"]) == 240


WORDS = {
    "age": ("?", "type", "stands for missing in files; send null"),
    "count": (" NA ", "type", "stands for missing in files; send null"),
    "plan": ("?", "type", "stands for missing in files; send null"),
    # a value is required: null would not do
    "income": ("?", "type", "must be a number, not a string"),
}


@pytest.mark.parametrize("name", WORDS)
def test_json_has_null_for_missing_and_no_words(customers, name):
    word, code, said = WORDS[name]

    answer, control = by_json(customers, **{name: word}), by_json(customers, **{name: None})

    assert (answer.status, [error["code"] for error in answer.json["errors"]]) == (422, [code])
    assert answer.json["errors"][0]["message"].endswith(said)
    assert control.status == (422 if name == "income" else 200)


def test_a_word_that_is_a_value_of_another_column_is_taken_there(customers):
    assert by_json(customers, plan="None").status == 200
    assert by_json(customers, plan="NA").status == 400


@pytest.mark.skipif(shutil.which("node") is None, reason="node runs the page's reader")
def test_the_page_reads_every_cell_the_same(customers, tmp_path):
    web = Path(front_page.__file__).parent / "web"
    for name in ("csv", "numbers"):
        (tmp_path / f"{name}.mjs").write_text((web / f"{name}.js").read_text())
    manifest = verify.read(customers.bundle).manifest
    features = {feature.name: msgspec.to_builtins(feature) for feature in manifest.features}
    texts = [as_csv([{**GOOD, name: cell}]) for name, cell, _ in CASES]
    script = """
        import {parseCsv} from "./csv.mjs";
        import {cellValue} from "./numbers.mjs";
        const {names, features, texts, header} = JSON.parse(process.argv[2]);
        console.log(JSON.stringify(texts.map((text, i) =>
          cellValue(features[names[i]], parseCsv(text).rows[1].cells[header.indexOf(names[i])]))));
    """
    (tmp_path / "read.mjs").write_text(script)
    given = {"names": [name for name, _, _ in CASES], "features": features, "texts": texts, "header": HEADER}

    done = subprocess.run(
        ["node", str(tmp_path / "read.mjs"), json.dumps(given)], capture_output=True, text=True, check=True
    )

    for (name, cell, meaning), value in zip(CASES, json.loads(done.stdout), strict=True):
        # what is no value is sent as the text it is, which the service refuses
        answer = by_json(customers, **{name: value})
        expected = {MISSING: None, REFUSED: value}.get(meaning, meaning) if isinstance(meaning, str) else meaning
        assert (name, cell, value) == (name, cell, pytest.approx(expected) if isinstance(expected, float) else expected)
        assert (name, cell, answer.status == 200) == (
            name,
            cell,
            meaning != REFUSED and (name, value) != ("income", None),
        )
