"""The command: what it writes, what it says, and that nothing is left when it fails."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from model import bundle, predictor, train, verify
from model.domain import NULL_WORDS
from model.errors import SpecError
from tests.conftest import quick_spec
from tests.unit.model import toy

BAR = "[quality.default]\naccuracy_min = {accuracy}\ncalibration_error_max = {error}\n"


@pytest.fixture
def slo(tmp_path: Path) -> Path:
    """A quality bar anything passes."""
    path = tmp_path / "slo.toml"
    path.write_text(BAR.format(accuracy=0.0, error=1.0))
    return path


def run(path: Path, slo: Path, *more: str) -> int:
    return train.main([str(path), "--out", str(path.parent / "out"), "--slo", str(slo), *more])


def written(folder: Path) -> list[str]:
    return sorted(os.listdir(folder / "out" / "toy")) if (folder / "out").exists() else []


def test_command_writes_a_current_bundle_and_reports(tmp_path, slo, capsys):
    assert run(toy.write(tmp_path), slo) == 0

    folder = bundle.current(tmp_path / "out", "toy")
    found = verify.read(folder, folder.name)
    said = capsys.readouterr()
    assert sorted([folder.name, "current"]) == written(tmp_path)
    assert said.out.endswith(f"{folder}\n{found.digest}\n")
    assert "proven equal" in said.out
    assert said.err == ""
    predictor.load(found)


@pytest.mark.parametrize(
    ("algorithm", "names", "nullable"),
    [
        (toy.XGBOOST, toy.CATEGORIES, False),
        (toy.XGBOOST, toy.MIXED, True),
        (toy.SCALED, toy.CATEGORIES, False),
        (toy.LOGISTIC, toy.MIXED, False),
        (toy.FOREST, toy.MIXED, False),
        (toy.BOOSTING, toy.MIXED, False),
    ],
    ids=["only categories", "nulls", "linear categories", "linear", "forest", "boosting"],
)
@pytest.mark.parametrize("classes", [2, 3])
def test_every_kind_of_model_goes_the_whole_way(tmp_path, slo, algorithm, names, nullable, classes):
    path = toy.write(tmp_path, algorithm=algorithm, names=names, nullable=nullable, classes=classes)

    assert run(path, slo) == 0

    loaded = predictor.load(verify.read(bundle.current(tmp_path / "out", "toy")))
    rows = loaded.golden_matrix()[:8]
    answers = loaded.predict(rows)
    found = loaded.explain(rows, answers.classes)
    assert rows.shape == found.values.shape


def test_few_rows_lower_the_level_of_the_sets(tmp_path, slo):
    assert run(toy.write(tmp_path, rows=60), slo) == 0

    assert verify.read(bundle.current(tmp_path / "out", "toy")).manifest.coverage == 0.95


@pytest.mark.parametrize(
    "algorithm", [toy.XGBOOST + "\nsubsample = 0.7", toy.FOREST, toy.SCALED], ids=["xgboost", "forest", "linear"]
)
def test_same_data_seed_and_epoch_give_the_same_digest(tmp_path, slo, monkeypatch: pytest.MonkeyPatch, algorithm):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    digests = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        assert run(toy.write(tmp_path / name, algorithm=algorithm), slo) == 0
        digests.append(bundle.current(tmp_path / name / "out", "toy").name)
    (tmp_path / "third").mkdir()
    path = toy.write(tmp_path / "third", algorithm=algorithm)
    path.write_text(path.read_text().replace("seed = 7", "seed = 8"))
    assert run(path, slo) == 0

    assert digests[0] == digests[1]
    assert digests[0] != bundle.current(tmp_path / "third" / "out", "toy").name


@pytest.mark.parametrize("name", ["penguins", "iris"])
def test_shipped_specs_are_reproducible(tmp_path, slo, monkeypatch: pytest.MonkeyPatch, name):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    path = quick_spec(name, tmp_path)
    path.write_text(path.read_text().replace("folds = 5", "folds = 2").replace("rounds = 100", "rounds = 10"))
    for out in ("one", "two"):
        assert train.main([str(path), "--out", str(tmp_path / out), "--slo", str(slo)]) == 0

    first, second = (bundle.current(tmp_path / out, name) for out in ("one", "two"))
    assert first.name == second.name
    assert (first / "model.onnx").read_bytes() == (second / "model.onnx").read_bytes()


def test_if_changed_does_nothing_until_spec_or_data_change(tmp_path, slo, monkeypatch: pytest.MonkeyPatch, capsys):
    path = toy.write(tmp_path)
    assert run(path, slo, "--if-changed") == 0
    first = bundle.current(tmp_path / "out", "toy")
    before = (first / "manifest.json").stat()
    capsys.readouterr()

    assert run(path, slo, "--if-changed") == 0
    assert f"{first} is up to date\n" == capsys.readouterr().out
    assert before == (first / "manifest.json").stat()

    path.write_text(path.read_text() + "\n# changed\n")
    assert run(path, slo, "--if-changed") == 0
    second = bundle.current(tmp_path / "out", "toy")
    assert second != first

    csv = tmp_path / "toy.csv"
    csv.write_text(csv.read_text() + csv.read_text().splitlines()[1] + "\n")
    assert run(path, slo, "--if-changed") == 0
    assert bundle.current(tmp_path / "out", "toy") not in (first, second)


def test_if_changed_trains_again_where_the_words_for_missing_are_not_in_the_manifest(tmp_path, slo, capsys):
    path = toy.write(tmp_path)
    path.write_text(path.read_text().replace("[split]", 'null = ["", "?"]\n\n[split]'))
    assert run(path, slo) == 0
    assert run(path, slo, "--if-changed") == 0
    assert capsys.readouterr().out.endswith("is up to date\n")
    # as it was written before the words had a member
    found = verify.read(bundle.current(tmp_path / "out", "toy"))
    features = tuple(replace(feature, null=NULL_WORDS) for feature in found.manifest.features)
    older = bundle.write(tmp_path / "out", replace(found.manifest, features=features), found.files)
    bundle.make_current(older)

    assert run(path, slo, "--if-changed") == 0

    assert bundle.current(tmp_path / "out", "toy") != older.folder
    assert verify.read(bundle.current(tmp_path / "out", "toy")).manifest.features[0].null == ("", "?")


@pytest.mark.parametrize("damage", ["model.json", "current", "csv"])
def test_if_changed_trains_again_when_the_bundle_is_damaged(tmp_path, slo, damage, monkeypatch: pytest.MonkeyPatch):
    path = toy.write(tmp_path)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    assert run(path, slo) == 0
    first = bundle.current(tmp_path / "out", "toy")
    if damage == "csv":
        (tmp_path / "toy.csv").unlink()
        assert run(path, slo, "--if-changed") == 2
        return
    target = first / damage if damage == "model.json" else first.parent / "current"
    target.write_bytes(b"\xff")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "2")

    assert run(path, slo, "--if-changed") == 0
    assert first != bundle.current(tmp_path / "out", "toy")


def _edit_spec(old: str, new: str):
    return lambda folder: (folder / "toy.toml").write_text((folder / "toy.toml").read_text().replace(old, new, 1))


def _edit_data(old: str, new: str):
    return lambda folder: (folder / "toy.csv").write_text((folder / "toy.csv").read_text().replace(old, new, 1))


WRONG = {
    "spec missing": (lambda f: (f / "toy.toml").unlink(), r"toy\.toml: cannot be read: No such file or directory"),
    "data missing": (lambda f: (f / "toy.csv").unlink(), r"toy\.csv: cannot be read: No such file or directory"),
    "unknown key": (_edit_spec("title", "titel"), r"toy\.toml:4: unknown key `titel`; did you mean `title`\?"),
    "unknown unit": (_edit_spec('"cm"', '"foo"'), r"toy\.toml:\d+: `size_mm`: 'foo' cannot be converted to 'mm'"),
    "unknown parameter": (_edit_spec("max_depth", "max_dept"), r"toy\.toml:\d+: XGBoost has no parameter `max_dept`"),
    "missing column": (_edit_data("legs", "arms"), r'toy\.csv:1: column "legs": is not in the header'),
    "column name of two lines": (_edit_data("legs", '"two\nlines"'), r'toy\.csv:1: column "legs": is not in the'),
    "text in a number": (lambda f: _number(f), r"toy\.csv:2: column \"size_mm\": 'tall' is not a number"),
}


def _number(folder: Path) -> None:
    lines = (folder / "toy.csv").read_text().splitlines()
    lines[1] = "tall" + lines[1][lines[1].index(",") :]
    (folder / "toy.csv").write_text("\n".join(lines))


@pytest.mark.parametrize(("damage", "reason"), WRONG.values(), ids=WRONG)
def test_wrong_spec_or_data_is_one_line_and_status_2(tmp_path, slo, capsys, damage, reason):
    path = toy.write(tmp_path)
    damage(tmp_path)

    assert run(path, slo) == 2

    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert re.search(reason, said)
    assert written(tmp_path) == []


@pytest.mark.parametrize(
    ("accuracy", "error", "reason"),
    [
        (1.1, 1.0, r"accuracy 0\.\d+ is below the bar 1.1 of slo.toml"),
        (0.0, -1.0, r"calibration error 0\.\d+ is above"),
    ],
    ids=["accuracy", "calibration"],
)
def test_model_below_the_bar_is_status_1_and_not_written(tmp_path, slo, capsys, accuracy, error, reason):
    slo.write_text(BAR.format(accuracy=accuracy, error=error))

    assert run(toy.write(tmp_path), slo) == 1

    said = capsys.readouterr().err
    assert re.match(f"error: {reason}", said)
    assert said.count("\n") == 1
    assert written(tmp_path) == []


def test_model_that_is_not_proven_but_must_be_is_status_1(tmp_path, slo, capsys):
    algorithm = 'name = "xgboost"\nrounds = 2\nengine = "onnx"\n[algorithm.params]\nnum_parallel_tree = 2'

    assert run(toy.write(tmp_path, algorithm=algorithm), slo) == 1

    assert 'engine = "onnx" is asked for, but this form is not proven' in capsys.readouterr().err
    assert written(tmp_path) == []


def test_model_that_xgboost_must_serve_itself_is_written(tmp_path, slo, capsys):
    algorithm = 'name = "xgboost"\nrounds = 2\n[algorithm.params]\nnum_parallel_tree = 2'

    assert run(toy.write(tmp_path, algorithm=algorithm), slo) == 0

    assert "NOT proven (largest difference" in capsys.readouterr().out
    found = verify.read(bundle.current(tmp_path / "out", "toy"))
    assert ("xgboost", None, {"model.json"}) == (
        found.manifest.engines.default,
        found.manifest.engines.fallback,
        set(found.files),
    )


def test_place_that_cannot_be_written_is_one_line(tmp_path, slo, capsys):
    (tmp_path / "out").write_text("a file")

    assert run(toy.write(tmp_path), slo) == 1

    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1


BARS = {
    "missing file": None,
    "not TOML": "[quality",
    "no quality": "[latency]\n",
    "no default": "[quality.toy]\naccuracy_min = 1\n",
    "half a bar": "[quality.default]\naccuracy_min = 0.5\n",
    "no number": BAR.format(accuracy='"high"', error=1),
    "no table": "[quality]\ndefault = 3\n",
    "a list": BAR.format(accuracy="[]", error=1),
}


@pytest.mark.parametrize("text", BARS.values(), ids=BARS)
def test_bar_that_cannot_be_read_is_status_2(tmp_path, slo, capsys, text):
    slo.unlink() if text is None else slo.write_text(text)

    assert run(toy.write(tmp_path), slo) == 2

    said = capsys.readouterr().err
    assert said.startswith(f"error: {slo}: cannot read the quality bar: ")
    assert said.count("\n") == 1
    assert written(tmp_path) == []


def test_bar_of_a_model_goes_over_the_default(slo):
    slo.write_text(BAR.format(accuracy=0.5, error=0.2) + "[quality.toy]\naccuracy_min = 0.9\n")

    assert train.bar_for(slo, "toy") == {"accuracy_min": 0.9, "calibration_error_max": 0.2}
    assert train.bar_for(slo, "other") == {"accuracy_min": 0.5, "calibration_error_max": 0.2}
    with pytest.raises(SpecError):
        train.bar_for(slo.parent, "toy")
