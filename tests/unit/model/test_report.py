"""What training prints for the person who decides."""

from __future__ import annotations

import dataclasses
import os
import re

import numpy as np
import pytest
from msgspec.structs import replace

from model import predictor, report, spec
from model.bundle import WrittenBundle
from model.dataset import Dataset
from model.evaluate import Evaluated, OutOfFold
from model.manifest import Dispute, Engines, Manifest
from model.verify import VerifiedBundle
from tests.conftest import ROOT


def quality(manifest: Manifest, data: Dataset, temperature: float | None = 0.5) -> None:
    loaded = spec.load(ROOT / "model/specs/penguins.toml")
    answers = OutOfFold(np.full((1, len(data.labels), 3), 1 / 3), np.zeros((1, len(data.labels)), dtype=np.intp))
    report.quality(loaded, data, Evaluated(manifest.quality, answers, temperature, 0.0123))


def test_report_names_measures_sets_confusion_and_units(manifest: Manifest, penguins_data: Dataset, capsys):
    quality(manifest, penguins_data)

    said = capsys.readouterr().out
    model = manifest.quality.model
    assert said.startswith("penguins 1: 342 rows, 4 features, 3 classes\n")
    assert "columns not used: island, sex, year\n" in said
    assert "left out 2 of 344 rows:\n" in said
    assert '  body_mass_g is "NA": 2 rows, line 5, 273\n' in said
    for name in ("accuracy", "log_loss", "macro_f1", "calibration_error"):
        estimate = getattr(model, name)
        assert f"{estimate.value:.4f} ({estimate.low:.4f}–{estimate.high:.4f})" in said
    assert "temperature 0.5 (calibration error before: 0.0123)" in said
    assert re.findall(r"  (\d\d%) promised: ", said) == ["90%", "95%", "99%"]
    for name, row in zip(manifest.classes, manifest.quality.confusion, strict=True):
        assert re.search(rf"  {name} +" + " +".join(map(str, row)) + "\n", said)
    assert "body_mass_g: kg 100.0%, lb 100.0%, oz 100.0%" in said


def test_uncalibrated_model_is_said_to_be(manifest: Manifest, penguins_data: Dataset, capsys):
    quality(manifest, penguins_data, temperature=None)

    assert "not calibrated" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((), None),
        (tuple(range(2, 12)), "line 2, 3, 4, 5, 6, 7, 8, 9, 10, 11\n"),
        (tuple(range(2, 15)), "11 and 3 more\n"),
    ],
    ids=["none", "ten", "thirteen"],
)
def test_lines_left_out_are_named_up_to_ten(manifest: Manifest, penguins_data: Dataset, capsys, lines, expected):
    quality(manifest, dataclasses.replace(penguins_data, dropped={"why": lines} if lines else {}))

    said = capsys.readouterr().out
    assert ("left out" in said) == (expected is not None)
    assert expected is None or expected in said


def test_at_most_twenty_disputes_are_shown(manifest: Manifest, penguins_data: Dataset, capsys):
    disputed = tuple(Dispute(line=i, label="a", predicted="b", probability=0.9) for i in range(30))
    quality(replace(manifest, quality=replace(manifest.quality, disputed=disputed)), penguins_data)

    said = capsys.readouterr().out
    assert "labels disputed by most repeats: 30\n" in said
    assert said.count("labelled a, answered b at 0.90") == 20
    # as it can be opened from where the command was typed
    path = os.path.relpath(ROOT / "model/data/penguins.csv")
    assert f"  {path}:7: labelled a" in said


def test_proof_is_told_with_its_numbers(manifest: Manifest, capsys):
    report.parity(manifest.parity, None, manifest.tables, manifest.engines)

    said = capsys.readouterr().out.splitlines()
    numbers = f"{manifest.parity.rows} rows, both sides of {manifest.parity.split_thresholds} split thresholds"
    assert said[0].startswith(f"compiled form: proven equal: {numbers}, 0 classes differ, largest difference ")
    assert said[0].endswith("computed in float")
    assert said[1].startswith(f"lookup tables: proven equal: {numbers}, 0 classes differ, largest difference ")
    assert said[1].endswith("computed in double")
    assert said[2:] == ["served by tables, xgboost stands by"]


def test_failed_proof_is_told_with_the_row(manifest: Manifest, capsys):
    alone = Engines(default="xgboost", fallback=None)
    report.parity(replace(manifest.parity, proven=False), "largest difference 1, at x=3", None, alone)

    said = capsys.readouterr().out
    assert "compiled form: NOT proven (largest difference 1, at x=3): " in said
    assert said.endswith("served by xgboost\n")
    assert "lookup tables" not in said


def test_failed_proof_of_the_tables_is_told(manifest: Manifest, capsys):
    engines = Engines(default="onnx", fallback="xgboost")
    report.parity(manifest.parity, None, replace(manifest.tables, proven=False, largest_difference=0.25), engines)

    said = capsys.readouterr().out
    assert "compiled form: proven equal: " in said
    assert re.search(r"lookup tables: NOT proven .*largest difference 0\.25 \(allowed 1e-06\)", said)
    assert said.endswith("served by onnx, xgboost stands by\n")


def test_missing_proof_is_told_with_the_reason(capsys):
    report.parity(None, "no converter", None, Engines(default="xgboost", fallback=None))

    assert capsys.readouterr().out == "compiled form: none (no converter)\nserved by xgboost\n"


def test_speed_of_each_engine_is_printed(penguins: VerifiedBundle, penguins_data: Dataset, capsys):
    report.speed([predictor.load(penguins, name) for name in penguins.manifest.engine_names], penguins_data.matrix)

    said = capsys.readouterr().out
    assert re.findall(r"engine (\w+): 1 row \d+ µs, 1,000 rows \d+\.\d\d ms\n", said) == ["tables", "onnx", "xgboost"]


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.875, "87.5% of the leaves visited"), (None, "no leaves to visit")],
    ids=["trees", "linear"],
)
def test_bundle_is_told_with_files_and_address(manifest: Manifest, tmp_path, capsys, share, expected):
    changed = replace(manifest, golden=replace(manifest.golden, leaf_share=share))

    report.bundle(changed, WrittenBundle(tmp_path, "sha256:00"))

    said = capsys.readouterr().out
    assert said.startswith(f"golden rows: {len(manifest.golden.rows)}, {expected}\n")
    assert re.search(r"  model.json \d+ kB\n  model.onnx \d+ kB\n", said)
    assert said.endswith(f"{tmp_path}\nsha256:00\n")


def test_cells_that_were_missing_are_counted_by_their_word(manifest: Manifest, penguins_data: Dataset, capsys):
    found = dataclasses.replace(penguins_data, missing={"sex": {"?": 9, "": 2}})
    quality(manifest, found)

    assert 'missing values of sex: 9 "?", 2 empty\n' in capsys.readouterr().out
    quality(manifest, penguins_data)
    assert "missing values" not in capsys.readouterr().out
