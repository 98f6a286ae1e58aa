"""The structure check: everything training can make passes, and a short form of the damage experiment."""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
from onnx import ModelProto

from model import engines, inspect, inspect_onnx, inspect_proto, inspect_trees
from model.errors import BundleError
from model.verify import VerifiedBundle
from tests.soak import trials
from tests.soak.damage import PRUNED, tempered
from tests.soak.edits import edit_json
from tests.soak.graphs import edit_onnx
from tests.soak.trials import Subject
from tests.unit.model import toy
from tests.unit.model.files import ESTIMATORS, SHAPES, XGBOOSTS, made


@pytest.mark.parametrize("temperature", [None, 1.7], ids=["plain", "tempered"])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("algorithm", [*XGBOOSTS, *ESTIMATORS])
def test_whatever_training_makes_passes(algorithm, shape, classes, temperature, tmp_path):
    text = {**XGBOOSTS, **ESTIMATORS}[algorithm]

    files, manifest = made(text, SHAPES[shape], classes, temperature, tmp_path, algorithm in XGBOOSTS)

    inspect.check(files, manifest)


def test_shipped_bundles_pass(penguins: VerifiedBundle, iris: VerifiedBundle):
    for bundle in (penguins, iris):
        inspect.check(bundle.files, bundle.manifest)


def test_pruned_trees_leave_deleted_nodes(tmp_path):
    files, _ = made(PRUNED, toy.NUMBERS, 2, None, tmp_path)
    trees = json.loads(files["model.json"])["learner"]["gradient_booster"]["model"]["trees"]

    assert any(tree["tree_param"]["num_deleted"] != "0" for tree in trees)


def test_field_numbers_are_those_of_onnx():
    def fields(ours, theirs, seen):
        if ours.name in seen:
            return
        seen.add(ours.name)
        for field in ours.fields:
            other = theirs.fields_by_number[field.number]
            same_type = field.type == other.type or {field.type, other.type} in ({12, 9}, {5, 14})
            assert (field.name, True) == (other.name, same_type), f"{ours.name}.{field.name}"
            assert (field.is_repeated, field.is_packed) == (other.is_repeated, other.is_packed), field.name
            if field.message_type is not None:
                fields(field.message_type, other.message_type, seen)

    seen: set[str] = set()
    fields(inspect_proto._MODEL.DESCRIPTOR, ModelProto.DESCRIPTOR, seen)

    assert set(inspect_proto._MESSAGES) == seen
    assert inspect_onnx._WHOLE_VECTORS[0].decode() == engines.WHOLE_VECTORS


def test_check_imports_no_native_loader():
    code = "import sys, model.inspect; print(*({'onnx', 'onnxruntime', 'xgboost', 'sklearn'} & set(sys.modules)))"

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert found.strip() == ""


def test_large_file_is_refused_before_it_is_read(penguins):
    with pytest.raises(BundleError, match=r"^structure_invalid: model\.json: it has 11 bytes, more than 10$"):
        inspect.check({"model.json": b"{" * 11}, penguins.manifest, max_bytes=10)


def test_number_of_nodes_is_bounded():
    leaf = np.array([-1, -1, -1])

    with pytest.raises(inspect_trees.StructureInvalid, match="more than 2"):
        inspect_trees.check_trees(np.array([1, 1, 1]), leaf, leaf, leaf > 0, max_nodes=2)
    with pytest.raises(inspect_trees.StructureInvalid, match="no trees"):
        inspect_trees.check_trees(leaf[:0], leaf[:0], leaf[:0], leaf[:0] > 0)


# the damage experiment, short


@pytest.mark.parametrize(
    ("kind", "file"),
    [("penguins", "model.json"), ("penguins", "model.onnx"), ("iris", "model.onnx"), ("forest", "model.onnx")],
)
def test_nothing_that_passes_crashes_or_hangs(kind, file, request, tmp_path):
    bundle = tempered(toy.write(tmp_path, toy.FOREST), tmp_path) if kind == "forest" else request.getfixturevalue(kind)
    edit = edit_json if file == "model.json" else edit_onnx

    result = trials.tally(
        Subject(kind, bundle, file), edit, [f"short/{kind}/{number}" for number in range(150)], brief=True
    )

    print(f"{kind} {file}: {dict(result.after)}", *result.worst)
    assert result.survived


def test_edits_are_the_same_for_a_seed(penguins: VerifiedBundle):
    for file, edit in (("model.json", edit_json), ("model.onnx", edit_onnx)):
        pairs = [[edit(penguins.files[file], trials.Random(f"{n}")) for n in range(5)] for _ in range(2)]
        assert all(itertools.starmap(bytes.__eq__, zip(*pairs, strict=True)))


def test_values_compare_by_type_and_shape():
    from model.inspect_operators import ROWS, Value

    value = Value(1, (ROWS, 3))

    assert value == dataclasses.replace(value)
    assert value != dataclasses.replace(value, below=3)
