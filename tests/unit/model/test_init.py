"""`python -m model.init` writes a spec that trains, or says in one line each why not."""

from __future__ import annotations

import json
import os

import pytest

from model import dataset, init, spec
from tests.conftest import ROOT


@pytest.fixture
def penguins_csv(tmp_path):
    """The penguins, somewhere else."""
    path = tmp_path / "birds.csv"
    path.write_bytes((ROOT / "model/data/penguins.csv").read_bytes())
    return path


def test_the_spec_is_beside_the_data_and_can_be_trained_on(penguins_csv, capsys):
    assert init.main([str(penguins_csv), "--yes"]) == 0
    printed = capsys.readouterr().out
    written = penguins_csv.with_suffix(".toml")
    data = dataset.load(spec.load(written))
    assert data.classes == ("Adelie", "Chinstrap", "Gentoo")
    assert f"next: read {written}" in printed


def test_json_tells_a_script_what_was_guessed(penguins_csv, tmp_path, capsys):
    out = tmp_path / "deep/er/spec.toml"
    arguments = [str(penguins_csv), "--label", "species", "--out", str(out), "--unit", "body_mass_g=kg", "--json"]
    assert init.main(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["spec"], told["label"], sorted(told["classes"])) == (
        str(out), "species", ["Adelie", "Chinstrap", "Gentoo"],
    )  # fmt: skip
    units = {feature["name"]: feature["unit"] for feature in told["features"]}
    assert (units["bill_length_mm"], units["body_mass_g"]) == ("mm", "kg")
    assert spec.load(out).data_path == penguins_csv


def test_a_terminal_is_asked_for_units(penguins_csv):
    assert init.main([str(penguins_csv)], ask=lambda question: "cm" if question.startswith("bill_depth") else "") == 0
    features = {feature.name: feature.unit for feature in spec.load(penguins_csv.with_suffix(".toml")).spec.features}
    assert (features["bill_depth_mm"], features["bill_length_mm"]) == ("cm", "mm")


def test_an_existing_spec_is_written_over_only_when_forced(penguins_csv, capsys):
    spec_path = penguins_csv.with_suffix(".toml")
    spec_path.write_text("mine")
    assert init.main([str(penguins_csv), "--yes"]) == 2
    assert (spec_path.read_text(), "exists" in capsys.readouterr().err) == ("mine", True)
    assert init.main([str(penguins_csv), "--yes", "--force"]) == 0
    assert spec_path.read_text() != "mine"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--label", "body_mass_g"], "regression is not supported"),
        (["--label", "kind"], "is not in the header"),
        (["--drop", "kind"], "is not in the header"),
        (["--name", "A B"], "must be lower-case letters"),
        (["--unit", "species=mm"], "is no number of the file"),
    ],
)
def test_what_cannot_be_is_one_line_and_nothing_is_written(penguins_csv, capsys, arguments, said):
    assert init.main([str(penguins_csv), "--yes", *arguments]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert said in errors[0]
    assert os.listdir(penguins_csv.parent) == ["birds.csv"]


@pytest.mark.parametrize(
    "raw", [b"", b"a,b\n1,2\n", b"\xff\xfe", None], ids=["empty", "two-columns", "bytes", "absent"]
)
def test_a_file_that_is_no_table_is_refused(tmp_path, capsys, raw):
    path = tmp_path / "x.csv"
    if raw is not None:
        path.write_bytes(raw)
    assert init.main([str(path), "--yes"]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_whoever_stops_it_leaves_nothing(penguins_csv, capsys):
    def stop(_: str) -> str:
        raise KeyboardInterrupt

    assert init.main([str(penguins_csv)], ask=stop) == 130
    assert os.listdir(penguins_csv.parent) == ["birds.csv"]


def test_what_was_taken_for_missing_is_said(penguins_csv, capsys):
    penguins_csv.write_text(penguins_csv.read_text().replace(",Chinstrap,", ",None,").replace("Chinstrap", "None"))

    assert init.main([str(penguins_csv), "--yes", "--label", "species"]) == 0

    said = capsys.readouterr().out
    assert '68 rows are of a class called "None"; if it stands for a missing label: --label-null "None"' in said
    assert 'read as missing: 11 "NA"' in said
    assert dataset.load(spec.load(penguins_csv.with_suffix(".toml"))).classes == ("Adelie", "Gentoo", "None")


def test_words_for_a_missing_label_can_be_given(penguins_csv, capsys):
    penguins_csv.write_text(penguins_csv.read_text().replace("Chinstrap", "None"))
    arguments = [str(penguins_csv), "--json", "--label", "species", "--label-null", "None"]

    assert init.main(arguments) == 0

    told = json.loads(capsys.readouterr().out)
    assert (told["classes"], told["unlabelled"]) == (["Adelie", "Gentoo"], {"None": 68})
    found = dataset.load(spec.load(penguins_csv.with_suffix(".toml")))
    assert found.classes == ("Adelie", "Gentoo")
    assert len(found.dropped['species, the label, is "None"']) == 68
