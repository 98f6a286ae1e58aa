"""What a person may write into a spec, and what they are told when it cannot be used."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from msgspec.structs import replace

from model import spec
from model.errors import SpecError
from model.spec import LabelSpec
from tests.conftest import ROOT
from tests.unit.model import toy

MIXED_TEXT = """\
name = "toy"
version = "1"
serial = 1
title = "Toys"
label = "kind"
seed = 7
intended_use = "Tests."
limits = ["None."]
expires = "2027-12-31"
novelty_threshold = 0.95
coverage = 0.9

[data]
path = "toy.csv"
source = "made up"
licence = "CC0-1.0"

[split]
folds = 3
repeats = 1

[algorithm]
name = "xgboost"
rounds = 4

[algorithm.params]
max_depth = 2

[algorithm.jitter]
copies = 3
scale = 0.1

[[features]]
name = "size_mm"
description = "Size"
unit = "mm"
hard = [0, 500]
plausible = [10, 90]
confused_with = ["cm"]

[[features]]
name = "legs"
description = "Number of legs"
dtype = "int"
hard = [0, 100]
plausible = [0, 20]

[[features]]
name = "colour"
description = "Colour"
dtype = "category"
values = ["red", "green"]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "toy.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["penguins", "iris"])
def test_shipped_spec_is_read(name):
    loaded = spec.load(ROOT / f"model/specs/{name}.toml")

    assert name == loaded.spec.name
    assert ROOT / f"model/data/{name}.csv" == loaded.data_path


def test_spec_is_read_with_defaults_and_digest(tmp_path):
    path = write(tmp_path, MIXED_TEXT)

    loaded = spec.load(path)

    assert loaded.spec.data.null == ("", "NA")
    assert (
        loaded.spec.algorithm.calibrate,
        loaded.spec.algorithm.engine,
        loaded.spec.algorithm.scaler,
    ) == ("auto", "auto", False)
    assert spec.JitterSpec(copies=3, scale=0.1) == loaded.spec.algorithm.jitter
    assert "sha256:" + hashlib.sha256(MIXED_TEXT.encode()).hexdigest() == loaded.digest


def test_absolute_data_path_is_kept(tmp_path):
    path = write(tmp_path, MIXED_TEXT.replace('"toy.csv"', '"/somewhere/rows.csv"'))

    assert Path("/somewhere/rows.csv") == spec.load(path).data_path


TREES = 'name = "random_forest"'
ERRORS = {
    "unknown top key": (
        'title = "Toys"',
        'titel = "Toys"',
        'titel = "Toys"',
        "unknown key `titel`; did you mean `title`?",
    ),
    "unknown feature key": ("plausible = [0, 20]", "plausable = [0, 20]", "plausable", "did you mean `plausible`?"),
    "unknown algorithm key": ("rounds = 4", "round = 4", "round = 4", "did you mean `rounds`?"),
    "unknown jitter key": ("copies = 3", "zz = 3", "zz = 3", "known keys: copies, scale"),
    "unknown split key": ("folds = 3", "fold = 3", "fold = 3", "did you mean `folds`?"),
    "unknown data key": ('path = "toy.csv"', 'file = "toy.csv"', 'file = "toy.csv"', "known keys: path, source"),
    "unknown table": ("[split]", "[zzz]", "[zzz]", "unknown key `zzz`; known keys: name, version"),
    "wrong type": ("serial = 1", 'serial = "1"', 'serial = "1"', "`serial`: expected `int`, got `str`"),
    "missing key": ('title = "Toys"\n', "", None, "object missing required field `title`"),
    "missing feature key": (
        'description = "Number of legs"\n',
        "",
        'name = "legs"',
        "missing required field `description`",
    ),
    "wrong nested type": ("hard = [0, 100]", 'hard = [0, "x"]', 'hard = [0, "x"]', "expected `float`, got `str`"),
    "unknown algorithm": ('name = "xgboost"', 'name = "svm"', 'name = "svm"', "invalid enum value 'svm'"),
    "bad name": ('name = "toy"', 'name = "Toy"', 'name = "Toy"', "`name` must be lower-case letters"),
    "empty version": ('version = "1"', 'version = ""', 'version = ""', "`version` must have 1 to 32 characters"),
    "long version": ('version = "1"', f'version = "{"1" * 33}"', "version", "`version` must have 1 to 32"),
    "serial zero": ("serial = 1", "serial = 0", "serial = 0", "`serial` must be a whole number from 1"),
    "negative seed": ("seed = 7", "seed = -1", "seed = -1", "`seed` must be a whole number from 0"),
    "seed too large": ("seed = 7", "seed = 2147483648", "seed =", "`seed` must be a whole number from 0"),
    "expiry is no date": ('"2027-12-31"', '"soon"', 'expires = "soon"', "`expires` must be a date"),
    "one fold": ("folds = 3", "folds = 1", "folds = 1", "`split.folds` must be 2 to 50"),
    "too many folds": ("folds = 3", "folds = 51", "folds = 51", "`split.folds` must be 2 to 50"),
    "no repeats": ("repeats = 1", "repeats = 0", "repeats = 0", "`split.repeats` must be 1 to 50"),
    "no rounds": ("rounds = 4", "rounds = 0", "rounds = 0", "`algorithm.rounds` must be 1 to 10000"),
    "too many rounds": ("rounds = 4", "rounds = 10001", "rounds = 10001", "`algorithm.rounds` must be 1 to"),
    "threshold one": ("novelty_threshold = 0.95", "novelty_threshold = 1.0", "novelty_threshold", "must be 0.5 up to"),
    "threshold nan": ("novelty_threshold = 0.95", "novelty_threshold = nan", "novelty_threshold", "must be 0.5 up to"),
    "coverage not offered": ("coverage = 0.9", "coverage = 0.8", "coverage = 0.8", "must be 0.9, 0.95 or 0.99"),
    "scaler before trees": (
        "rounds = 4",
        "rounds = 4\nscaler = true",
        "scaler = true",
        "a scaler before trees cannot be proven equal; drop it, trees do not need it",
    ),
    "jitter elsewhere": ('name = "xgboost"', TREES, "[algorithm.jitter]", "jitter is for xgboost only"),
    "no copies": ("copies = 3", "copies = 0", "[algorithm.jitter]", "jitter needs 1 to 100 `copies`"),
    "too many copies": ("copies = 3", "copies = 101", "[algorithm.jitter]", "jitter needs 1 to 100 `copies`"),
    "no noise": ("scale = 0.1", "scale = 0.0", "[algorithm.jitter]", "a `scale` above 0, up to 1"),
    "too much noise": ("scale = 0.1", "scale = 1.5", "[algorithm.jitter]", "a `scale` above 0, up to 1"),
    "engine cannot serve": (
        MIXED_TEXT[MIXED_TEXT.index('name = "xgboost"') : MIXED_TEXT.index("\n[[features]]")],
        TREES + '\nengine = "xgboost"',
        'engine = "xgboost"',
        "only an xgboost model can be served by the xgboost engine",
    ),
    "reserved word": ('name = "legs"', 'name = "instances"', 'name = "instances"', "rename it"),
    "name twice": ('name = "legs"', 'name = "size_mm"', None, "`size_mm` is used twice"),
    "feature is the label": ('name = "legs"', 'name = "kind"', 'name = "kind"', "`kind` is used twice"),
    "feature name": ('name = "legs"', 'name = "2legs"', 'name = "2legs"', "not starting with a digit"),
    "category without values": ('values = ["red", "green"]\n', "", 'name = "colour"', "needs `values`, at least two"),
    "category of one value": ('["red", "green"]', '["red"]', "values =", "needs `values`, at least two"),
    "category of equal values": ('["red", "green"]', '["red", "red"]', "values =", "all different"),
    "category value is null": ('["red", "green"]', '["red", "NA"]', "values =", "'NA' stands for a missing value"),
    "category value with spaces": (
        '["red", "green"]',
        '["red", " green"]',
        "values =",
        "' green' has spaces around it",
    ),
    "category value is null of its own": (
        'values = ["red", "green"]',
        'values = ["red", "green"]\nnull = ["green"]',
        "values =",
        "give the feature a `null` of its own without 'green'",
    ),
    "category with a range": (
        'dtype = "category"',
        'dtype = "category"\nhard = [0, 1]',
        "hard = [0, 1]",
        "takes no `hard`",
    ),
    "category with a unit": ('dtype = "category"', 'dtype = "category"\nunit = "mm"', None, "takes no `unit`"),
    "number with values": (
        'dtype = "int"',
        'dtype = "int"\nvalues = ["1"]',
        'values = ["1"]',
        'set dtype = "category"',
    ),
    "number without hard": ("hard = [0, 100]\n", "", 'name = "legs"', "number `legs` needs `hard = [low, high]`"),
    "number without plausible": ("plausible = [0, 20]\n", "", 'name = "legs"', "needs `hard = [low, high]` and"),
    "plausible too low": ("plausible = [0, 20]", "plausible = [-1, 20]", "plausible = [-1", "a range inside `hard`"),
    "plausible too high": ("plausible = [0, 20]", "plausible = [0, 101]", "plausible = [0, 101]", "a range inside"),
    "plausible upside down": ("plausible = [0, 20]", "plausible = [20, 0]", "plausible = [20, 0]", "a range inside"),
    "hard not in float32": ("hard = [0, 100]", "hard = [0, 1e39]", "plausible = [0, 20]", "both within float32"),
    "hard is nan": ("hard = [0, 100]", "hard = [nan, 100]", "plausible = [0, 20]", "a range inside `hard`"),
    "confused without unit": ('unit = "mm"\n', "", "confused_with", "`size_mm` has confused units but no `unit`"),
}


@pytest.mark.parametrize(("old", "new", "place", "reason"), ERRORS.values(), ids=ERRORS)
def test_wrong_spec_is_refused_at_its_line(tmp_path, old, new, place, reason):
    assert old in MIXED_TEXT
    text = MIXED_TEXT.replace(old, new, 1)
    path = write(tmp_path, text)

    with pytest.raises(SpecError) as caught:
        spec.load(path)

    assert reason in caught.value.reason
    assert len(str(caught.value).splitlines()) == 1
    if place is not None:
        lines = text.splitlines()
        assert caught.value.line is not None
        line = lines[caught.value.line - 1]
        header = (
            max(i for i in range(len(lines)) if i < caught.value.line and lines[i].startswith("["))
            if line.startswith("[")
            else None
        )
        # a key that is missing is reported at the head of its table
        assert place in (line if header is None else "\n".join(lines[header : header + 2]))
        assert str(caught.value).startswith(f"{path}:{caught.value.line}: ")


@pytest.mark.parametrize("algorithm", ["logistic_regression", "random_forest", "gradient_boosting"])
def test_only_xgboost_takes_missing_values(tmp_path, algorithm):
    path = toy.write(tmp_path, algorithm=f'name = "{algorithm}"', nullable=True)

    with pytest.raises(SpecError, match=f"{algorithm} takes no missing values; use xgboost") as caught:
        spec.load(path)

    assert path.read_text().splitlines()[caught.value.line - 1] == "nullable = true"


def test_spec_without_features_is_refused(tmp_path):
    text = "features = []\n" + MIXED_TEXT[: MIXED_TEXT.index("[[features]]")]

    with pytest.raises(SpecError, match="`features` must name at least one feature") as caught:
        spec.load(write(tmp_path, text))

    assert caught.value.line == 1


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(SpecError, match=r"none\.toml: cannot be read: No such file or directory$"):
        spec.load(tmp_path / "none.toml")


def test_folder_is_refused(tmp_path):
    with pytest.raises(SpecError, match="cannot be read: Is a directory"):
        spec.load(tmp_path)


def test_latin_1_is_refused(tmp_path):
    path = tmp_path / "latin.toml"
    path.write_bytes(MIXED_TEXT.replace("Toys", "Größe").encode("latin-1"))

    with pytest.raises(SpecError, match="is not UTF-8 text"):
        spec.load(path)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [("serial = 1", "serial = ", 3), ("[data]", "[data", 13), ('values = ["red", "green"]\n', 'values = ["red"', None)],
    ids=["no value", "open header", "end of file"],
)
def test_what_is_not_toml_is_refused_at_its_line(tmp_path, old, new, line):
    with pytest.raises(SpecError, match="is not TOML") as caught:
        spec.load(write(tmp_path, MIXED_TEXT.replace(old, new)))

    assert line == caught.value.line


def test_error_can_be_raised_at_a_key_later(tmp_path):
    loaded = spec.load(write(tmp_path, MIXED_TEXT))

    assert f"{loaded.path}:27: no" == str(loaded.error("algorithm.params.max_depth", "no"))


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("name", 'name = "toy"'),
        ("limits[3]", 'limits = ["None."]'),
        ("data.null", "[data]"),
        ("data.null[1]", "[data]"),
        ("algorithm.name", 'name = "xgboost"'),
        ("algorithm.params", "[algorithm.params]"),
        ("algorithm.params.max_depth", "max_depth = 2"),
        ("algorithm.params.gamma", "[algorithm.params]"),
        ("algorithm.jitter.copies", "copies = 3"),
        ("features[1].hard[0]", "hard = [0, 100]"),
        ("features[0].hard", "hard = [0, 500]"),
        ("features[2].name", 'name = "colour"'),
        ("nothing", None),
        ("", None),
    ],
)
def test_line_of_a_key(keys, expected):
    line = spec.line_of(MIXED_TEXT, keys)

    assert expected == (None if line is None else MIXED_TEXT.splitlines()[line - 1])


def test_line_of_a_key_that_is_missing_is_its_own_table():
    assert MIXED_TEXT[: MIXED_TEXT.index('name = "colour"')].count("\n") == spec.line_of(MIXED_TEXT, "features[2].unit")


def test_line_of_a_dotted_key():
    assert spec.line_of("[data]\nalgorithm.rounds = 3\n", "data.algorithm.rounds") == 2


LABELS = {
    "name": ('"kind"', LabelSpec("kind")),
    "inline table": ('{name = "kind", positive = "kind a", null = ["?"]}', LabelSpec("kind", "kind a", ("?",))),
}


@pytest.mark.parametrize(("text", "expected"), LABELS.values(), ids=LABELS)
def test_label_is_a_name_or_a_table(tmp_path, text, expected):
    path = toy.write(tmp_path)
    path.write_text(path.read_text().replace('label = "kind"', f"label = {text}"))

    assert spec.load(path).spec.target == expected


def test_label_may_be_a_table_with_a_header(tmp_path):
    path = toy.write(tmp_path)
    table = '[label]\nname = "kind"\npositive = "kind b"\n\n[data]'
    path.write_text(path.read_text().replace('label = "kind"\n', "").replace("[data]", table))

    assert spec.load(path).spec.target == LabelSpec("kind", "kind b")


WRONG_LABELS = {
    "misspelt": ('{name = "kind", positiv = "a"}', "unknown key `positiv`; did you mean `positive`?"),
    "no name": ('{positive = "a"}', "missing required field `name`"),
    "a number": ('{name = "kind", positive = 1}', "expected `str | null`, got `int`"),
    "missing and positive": ('{name = "kind", positive = "?", null = ["?"]}', "'?' stands for a missing label too"),
    "empty": ('{name = "kind", positive = ""}', "'' stands for a missing label too"),
    "a feature": ('{name = "legs"}', "`legs` is used twice"),
}


@pytest.mark.parametrize(("text", "said"), WRONG_LABELS.values(), ids=WRONG_LABELS)
def test_a_wrong_label_is_refused_in_one_line(tmp_path, text, said):
    path = toy.write(tmp_path)
    path.write_text(path.read_text().replace('label = "kind"', f"label = {text}"))

    with pytest.raises(SpecError) as caught:
        spec.load(path)

    assert said in caught.value.reason
    assert caught.value.line is not None


@pytest.mark.parametrize(
    ("data", "own", "expected"),
    [
        (("NA", ""), None, ("", "NA")),
        ((" ? ", "", "?"), None, ("", "?")),
        (("?",), ("-", ""), ("", "-")),
        (("?",), (), ()),
    ],
    ids=["usual", "spaces and twice", "of its own", "none of its own"],
)
def test_null_words_are_in_one_order_without_spaces(tmp_path, data, own, expected):
    found = spec.load(toy.write(tmp_path)).spec
    found = replace(found, data=replace(found.data, null=data))

    assert spec.null_words(found, replace(found.features[0], null=own)) == expected
