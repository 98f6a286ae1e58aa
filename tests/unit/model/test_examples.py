"""The examples are ordinary instances that the model answers as they say."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from model import predictor
from model.domain import to_matrix
from model.examples import EACH, examples


@pytest.mark.parametrize("name", ["penguins", "iris"])
def test_each_class_has_examples_and_one_is_doubtful(name, request):
    manifest = request.getfixturevalue(name).manifest
    found = examples(manifest)
    typical = [example.label for example in found if example.kind == "typical"]
    assert [label for label in manifest.classes for _ in range(EACH)] == typical
    assert [example.kind for example in found].count("doubtful") == 1


@pytest.mark.parametrize("name", ["penguins", "iris"])
def test_the_model_answers_what_the_label_says(name, request):
    bundle = request.getfixturevalue(name)
    loaded, found = predictor.load(bundle), examples(bundle.manifest)
    names = bundle.manifest.feature_names
    rows = [[example.instance[feature] for feature in names] for example in found]
    answers = loaded.answers(to_matrix(bundle.manifest.features, rows))
    assert [example.label for example in found] == [bundle.manifest.classes[a.prediction] for a in answers]
    margins = [float(np.diff(np.sort(a.probabilities)[-2:])[0]) for a in answers]
    assert found[int(np.argmin(margins))].kind == "doubtful"


def test_every_value_is_plausible(penguins):
    for example in examples(penguins.manifest):
        for feature in penguins.manifest.features:
            assert feature.accepts_as_plausible(example.instance[feature.name])


def test_a_class_without_an_ordinary_row_has_no_example(penguins):
    manifest = penguins.manifest
    first, *others = manifest.features
    low = first.plausible[0]
    # next to nothing is plausible
    narrow = replace(manifest, features=(replace(first, plausible=(low, low + 1e-9)), *others))
    assert examples(narrow) == []
    assert len(examples(manifest)) == EACH * len(manifest.classes) + 1
