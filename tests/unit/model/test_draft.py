"""A draft is a spec: what it says can be read back and trained on."""

from __future__ import annotations

import tomllib

import pytest

from model.draft import Refused, draft, to_toml, with_units
from model.errors import DataError


@pytest.fixture
def csv(tmp_path):
    """Sixty rows of a number with a unit, one without, a category, a constant, and a label."""
    path = tmp_path / "things.csv"
    lines = ["size_mm,ratio,colour,site,id,outcome"]
    lines += [f'{i % 9}.5,{"" if i % 20 == 0 else i % 7},"a ""b"" \\ é",here,{i},{"ya"[i % 2]}' for i in range(30)]
    lines += [f"{i % 9}.5,{i % 7},NA,here,{i},{'ya'[i % 2]}" for i in range(30, 45)]
    lines += [f"{i % 9}.5,{i % 7},red,here,{i},{'ya'[i % 2]}" for i in range(45, 60)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_every_column_is_there_or_left_out(csv):
    found = draft(csv, "things", None, ["id"])
    assert found.label == "outcome"
    assert [column.name for column in found.features] == ["size_mm", "ratio", "colour"]
    assert found.left_out == {"id": "as you said", "site": "the same value in every row"}
    assert found.null == ("", "NA")


def test_the_spec_holds_what_was_guessed(csv):
    found = tomllib.loads(to_toml(draft(csv, "things", None, ["id"]), "things.csv"))
    size, ratio, colour = found["features"]
    assert (size["unit"], size["description"], ratio["nullable"]) == ("mm", "Size", True)
    assert colour["values"] == ['a "b" \\ é', "red"]
    assert (found["split"]["folds"], found["data"]["path"]) == (5, "things.csv")


def test_every_problem_is_told_at_once(csv):
    csv.write_text(csv.read_text().replace("ratio", "the ratio"))
    with pytest.raises(Refused) as caught:
        draft(csv, "things", None, [])
    assert [line.split('"')[1] for line in str(caught.value).splitlines()] == ["the ratio", "id"]


@pytest.mark.parametrize(
    ("replaced", "by", "said"),
    [("\n1.5,1,", "\n1.5,1,2,", "has 7 cells"), ("outcome", "size_mm", "stands 2 times"), (",site", "", "cells")],
)
def test_a_table_that_is_none_is_refused(csv, replaced, by, said):
    csv.write_text(csv.read_text().replace(replaced, by, 1))
    with pytest.raises(DataError, match=said):
        draft(csv, "things", None, ["id"])


def test_units_are_given_asked_for_or_kept(csv):
    asked = []

    def ask(question: str) -> str:
        asked.append(question)
        return ""

    found = with_units(draft(csv, "things", None, ["id"]), {"ratio": "kg"}, ask)
    assert [column.unit for column in found.features] == ["mm", "kg", ""]
    assert asked == ["size_mm, 0.5 to 8.5: unit [mm]? "]


def test_a_unit_of_what_is_no_number_is_refused(csv):
    with pytest.raises(DataError, match="numbers are ratio, size_mm"):
        with_units(draft(csv, "things", None, ["id"]), {"colour": "mm"}, None)


def test_words_taken_for_missing_are_counted_and_marked(csv):
    csv.write_text(csv.read_text().replace(",NA,here", ",?,here").replace("\n3.5,6,red", "\n-,6,red"))

    found = draft(csv, "things", None, ["id", "site"])
    text = to_toml(found, "things.csv")

    assert [column.missing for column in found.features] == [{"-": 1}, {"": 2}, {"?": 15}]
    assert found.null == ("", "NA", "?", "-")
    assert 'nullable = true  # (guess) missing: 15 "?"' in text
    assert 'null = ["", "NA", "?", "-"]  # (guess) stands for a missing value' in text
    assert tomllib.loads(text)["data"]["null"] == ["", "NA", "?", "-"]


def test_words_of_columns_that_are_not_used_are_not_guessed(csv):
    csv.write_text(csv.read_text().replace(",here,", ",?,").replace(",y\n", ",None\n"))

    assert draft(csv, "things", None, ["id", "site"]).null == ("", "NA")


@pytest.mark.parametrize("word", ["None", "NA", "-"])
def test_a_class_called_like_a_missing_value_is_a_class_and_named(csv, word):
    csv.write_text(csv.read_text().replace(",y\n", f",{word}\n").replace(f",59,{word}", ",59,"))

    found = draft(csv, "things", "outcome", ["id"])
    text = to_toml(found, "things.csv")

    assert (found.classes, found.unlabelled, found.doubtful_classes) == ({"a": 30, word: 30}, {}, {word: 30})
    assert f'30 rows are of a class called "{word}"; if it stands for a missing label: --label-null "{word}"' in text
    assert tomllib.loads(text)["label"] == "outcome"


def test_words_for_a_missing_label_reach_the_spec(csv):
    csv.write_text(csv.read_text().replace(",30,y\n", ",30,?\n").replace(",31,a\n", ",31,\n"))

    found = draft(csv, "things", "outcome", ["id"], ["?"])
    text = to_toml(found, "things.csv")

    assert (sum(found.classes.values()), found.unlabelled) == (58, {"": 1, "?": 1})
    assert '# (guess) 1 rows are left out: outcome is "?"' in text
    assert tomllib.loads(text)["label"] == {"name": "outcome", "null": ["?"]}
