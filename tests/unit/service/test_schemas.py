"""The schema decides what is valid and words the refusal: place, code and message of every fault."""

from __future__ import annotations

import gc
import json
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marshmallow import RAISE, ValidationError

from model.domain import Feature
from service.answer import Answerer
from service.errors import MAX_ECHO, MAX_PROBLEMS, ImplausibleValue, InvalidInstance, ServiceError, TooManyInstances
from service.instance_schema import instance_schema
from service.instances import DEFAULTS, Conversion, Options
from service.render import Renderer
from service.schemas import MOST_CONVERTED, MOST_COUNTED, MOST_ROW_PROBLEMS, Judge
from tests.unit.service.calls import ADELIE, PLOT, SETOSA

CONVERT = Options(convert_units=True)
BY_ROW = Options(row_errors=True)


@pytest.fixture(scope="module")
def judges(answerers: dict[str, Answerer]) -> dict[str, Judge]:
    """A judge for every model, batches of at most 30."""
    return {name: Judge(answerer.require_model().predictor, 30) for name, answerer in answerers.items()}


def _refused(judge: Judge, body: object, options: Options = DEFAULTS) -> ServiceError:
    with pytest.raises(ServiceError) as refused:
        judge.judge(body, options)
    return refused.value


def _told(refusal: ServiceError) -> list[tuple[str, str, str]]:
    return [(p.pointer, p.code, p.message) for p in refusal.problems]


def _without(row: dict[str, object], name: str) -> dict[str, object]:
    return {key: value for key, value in row.items() if key != name}


FAULTS = {
    "missing": (_without(ADELIE, "bill_depth_mm"), "/bill_depth_mm", "missing", "required: bill depth in mm"),
    "unknown": ({**ADELIE, "island": "Dream"}, "/island", "unknown", "is not a feature of this model"),
    "unknown, with a dot": ({**ADELIE, "a.b": 1}, "/a.b", "unknown", "is not a feature of this model"),
    "unknown, empty": ({**ADELIE, "": 1}, "/", "unknown", "is not a feature of this model"),
    "unknown, like a name of marshmallow": (
        {**ADELIE, "_schema": 1},
        "/_schema",
        "unknown",
        "is not a feature of this model",
    ),
    "unknown, with a slash": ({**ADELIE, "a/b~": 1}, "/a~1b~0", "unknown", "is not a feature of this model"),
    "column names without rows": ({**ADELIE, "features": []}, "/features", "unknown", "is not a feature of this model"),
    "null": ({**ADELIE, "bill_depth_mm": None}, "/bill_depth_mm", "null", "must not be null: bill depth in mm"),
    "a string": ({**ADELIE, "body_mass_g": "3750"}, "/body_mass_g", "type", "must be a number, not a string"),
    "the text NaN": ({**ADELIE, "body_mass_g": "NaN"}, "/body_mass_g", "type", "must be a number, not a string"),
    "a boolean": ({**ADELIE, "body_mass_g": True}, "/body_mass_g", "type", "must be a number, not a boolean"),
    "an object": ({**ADELIE, "body_mass_g": {}}, "/body_mass_g", "type", "must be a number, not an object"),
    "an array": ({**ADELIE, "body_mass_g": [3750]}, "/body_mass_g", "type", "must be a number, not an array"),
}


@pytest.mark.parametrize(("body", "pointer", "code", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_of_shape_or_type_is_placed_and_worded(judges, body, pointer, code, message):
    refusal = _refused(judges["penguins"], body)
    assert (InvalidInstance, [(pointer, code, message)]) == (type(refusal), _told(refusal))


DOMAIN = {
    "above the hard range": (
        {**ADELIE, "body_mass_g": 30001},
        "/body_mass_g",
        "range",
        "30001 is outside 300 to 30000 g",
    ),
    "below the hard range": (
        {**ADELIE, "bill_depth_mm": -18.7},
        "/bill_depth_mm",
        "range",
        "-18.7 is outside 2 to 100 mm",
    ),
    "another unit": (
        {**ADELIE, "flipper_length_mm": 7.13},
        "/flipper_length_mm",
        "unit",
        "7.13 is not a plausible flipper length in mm; in inches it would be 181.1 mm",
    ),
}


@pytest.mark.parametrize(("body", "pointer", "code", "message"), DOMAIN.values(), ids=DOMAIN.keys())
def test_a_value_outside_the_domain_is_placed_and_worded(judges, body, pointer, code, message):
    refusal = _refused(judges["penguins"], body)
    assert (ImplausibleValue, [(pointer, code, message)]) == (type(refusal), _told(refusal))


def test_a_mix_up_of_units_carries_a_suggestion(judges):
    refusal = _refused(judges["penguins"], {**ADELIE, "flipper_length_mm": 7.13})
    assert refusal.problems[0].suggestion == ("in", 181.1)


PLOT_FAULTS = {
    "a text of no kind": ({**PLOT, "soil": "peat"}, ImplausibleValue, "/soil", "range"),
    "a text with a NUL": ({**PLOT, "soil": "clay\x00"}, ImplausibleValue, "/soil", "range"),
    "a number for a text": ({**PLOT, "soil": 1}, InvalidInstance, "/soil", "type"),
    "null for a text": ({**PLOT, "soil": None}, InvalidInstance, "/soil", "null"),
    "a text for a nullable number": ({**PLOT, "ph": ""}, InvalidInstance, "/ph", "type"),
    "a nullable number left out": (_without(PLOT, "ph"), InvalidInstance, "/ph", "missing"),
    "a fraction for a whole number": ({**PLOT, "count": 7.5}, InvalidInstance, "/count", "type"),
}


@pytest.mark.parametrize(("body", "kind", "pointer", "code"), PLOT_FAULTS.values(), ids=PLOT_FAULTS.keys())
def test_texts_nulls_and_whole_numbers_are_judged(judges, body, kind, pointer, code):
    refusal = _refused(judges["plots"], body)
    assert (kind, [(pointer, code)]) == (type(refusal), [(p.pointer, p.code) for p in refusal.problems])


def test_a_nullable_feature_says_how_to_leave_it_out(judges):
    refusal = _refused(judges["plots"], _without(PLOT, "ph"))
    assert refusal.problems[0].message == "required: ph (null if not measured)"


@pytest.mark.parametrize("value", ["x" * 10_000, "\N{PENGUIN}" * 10_000])
def test_a_text_of_no_kind_is_not_repeated(judges, value):
    refusal = _refused(judges["plots"], {**PLOT, "soil": value})
    assert value[:2] not in refusal.problems[0].message


def test_a_long_key_is_cut_in_the_pointer(judges):
    refusal = _refused(judges["penguins"], {**ADELIE, "k" * 10_000: 1})
    assert [(p.pointer, p.code) for p in refusal.problems] == [("/" + "k" * (MAX_ECHO - 1) + "…", "unknown")]


def test_both_kinds_of_fault_make_422_and_all_are_named_in_the_order_of_the_manifest(judges):
    body = {"zzz": 1, "body_mass_g": 99999, "flipper_length_mm": 7.13, "bill_length_mm": "39.1"}
    refusal = _refused(judges["penguins"], body)
    assert InvalidInstance is type(refusal)
    assert [(p.pointer, p.code) for p in refusal.problems] == [
        ("/bill_length_mm", "type"),
        ("/bill_depth_mm", "missing"),
        ("/flipper_length_mm", "unit"),
        ("/body_mass_g", "range"),
        ("/zzz", "unknown"),
    ]


@pytest.mark.parametrize(
    ("body", "words"),
    [([], "an array"), ("x", "a string"), (1, "a number"), (1.5, "a number"), (None, "null"), (True, "a boolean")],
)
def test_a_body_that_is_no_object_is_refused(judges, body, words):
    assert [("", "type", f"must be an object, not {words}")] == _told(_refused(judges["penguins"], body))


VALUES = list(ADELIE.values())
NAMES = list(ADELIE)
ENVELOPES = {
    "rows that are no array": ({"instances": ADELIE}, "/instances", "type", "must be an array, not an object"),
    "no rows": ({"instances": []}, "/instances", "missing", "at least one instance is required"),
    "something else": (
        {"instances": [ADELIE], "parameters": {}},
        "/parameters",
        "unknown",
        "is not part of a batch; known: instances, features",
    ),
    "a row that is no object": ({"instances": [VALUES]}, "/instances/0", "type", "must be an object, not an array"),
    "a row that is no array": (
        {"instances": [ADELIE], "features": NAMES},
        "/instances/0",
        "type",
        "must be an array, not an object",
    ),
    "a row too short": (
        {"instances": [VALUES, [1, 2]], "features": NAMES},
        "/instances/1",
        "missing",
        "has 2 values for 4 features",
    ),
    "a row too long": (
        {"instances": [[*VALUES, 1]], "features": NAMES},
        "/instances/0",
        "unknown",
        "has 5 values for 4 features",
    ),
    "a value in a row": (
        {"instances": [VALUES, [39.1, 18.7, 181, "x"]], "features": NAMES},
        "/instances/1/3",
        "type",
        "must be a number, not a string",
    ),
    "names that are no array": (
        {"instances": [VALUES], "features": "x"},
        "/features",
        "type",
        "must be an array of names, not a string",
    ),
    "names that are null": (
        {"instances": [VALUES], "features": None},
        "/features",
        "type",
        "must be an array of names, not null",
    ),
    "a name twice": (
        {"instances": [VALUES], "features": [*NAMES, NAMES[0]]},
        "/features/4",
        "ambiguous",
        "stands twice",
    ),
    "a name of no feature": (
        {"instances": [VALUES], "features": [*NAMES, "island"]},
        "/features/4",
        "unknown",
        "is not a feature of this model",
    ),
    "a name that is no string": (
        {"instances": [VALUES], "features": [*NAMES, ["x"]]},
        "/features/4",
        "type",
        "must be a string, not an array",
    ),
    "a name missing": (
        {"instances": [VALUES[:3]], "features": NAMES[:3]},
        "/features",
        "missing",
        "required: body mass in g",
    ),
}


@pytest.mark.parametrize(("body", "pointer", "code", "message"), ENVELOPES.values(), ids=ENVELOPES.keys())
def test_what_is_around_the_rows_is_judged(judges, body, pointer, code, message):
    refusal = _refused(judges["penguins"], body)
    assert (InvalidInstance, [(pointer, code, message)]) == (type(refusal), _told(refusal))


def test_everything_wrong_around_the_rows_is_named(judges):
    refusal = _refused(judges["penguins"], {"instances": 1, "features": [*NAMES[:3], NAMES[0], 5], "x": 1})
    assert [(p.pointer, p.code) for p in refusal.problems] == [
        ("/x", "unknown"),
        ("/instances", "type"),
        ("/features/3", "ambiguous"),
        ("/features/4", "type"),
        ("/features", "missing"),
    ]


def test_a_batch_over_the_limit_is_refused(judges):
    refusal = _refused(judges["penguins"], {"instances": [{}] * 31})
    assert TooManyInstances is type(refusal)
    assert _told(refusal) == [("", "too_many_instances", "at most 30 instances are taken at once")]


def test_the_largest_batch_is_taken(judges):
    assert len(judges["penguins"].judge({"instances": [ADELIE] * 30}, DEFAULTS)) == 30


def test_columns_may_stand_in_any_order(judges):
    turned = list(reversed(NAMES))
    found = judges["penguins"].judge({"features": turned, "instances": [list(reversed(VALUES))]}, DEFAULTS)
    assert np.array([VALUES], dtype=np.float32).tolist() == found.matrix.tolist()
    assert not found.is_single


def test_a_fault_after_twenty_others_still_makes_it_422(judges):
    rows: list[object] = [{**ADELIE, "body_mass_g": 99999}] * 25 + [{}]
    refusal = _refused(judges["penguins"], {"instances": rows})
    assert (InvalidInstance, "29 problems", 20) == (type(refusal), refusal.detail, len(refusal.problems))
    assert {"range"} == {p.code for p in refusal.problems}


@pytest.mark.parametrize("turn", [1, -1], ids=["the invalid row first", "the invalid row last"])
def test_a_batch_with_both_kinds_of_fault_is_422_in_any_order(judges, turn):
    rows = [{**ADELIE, "island": 1}, {**ADELIE, "body_mass_g": 99999}][::turn]
    assert InvalidInstance is type(_refused(judges["penguins"], {"instances": rows}))


def test_unknown_features_are_named_in_the_order_given(judges):
    body = {**ADELIE, **{f"x{i}": 1 for i in range(12)}}
    assert [f"/x{i}" for i in range(12)] == [p.pointer for p in _refused(judges["penguins"], body).problems]


def test_only_values_outside_the_domain_make_a_batch_400(judges):
    rows = [ADELIE, {**ADELIE, "body_mass_g": 99999}, {**ADELIE, "flipper_length_mm": 7.13}]
    refusal = _refused(judges["penguins"], {"instances": rows})
    assert ImplausibleValue is type(refusal)
    assert [(p.pointer, p.code) for p in refusal.problems] == [
        ("/instances/1/body_mass_g", "range"),
        ("/instances/2/flipper_length_mm", "unit"),
    ]


def test_by_row_a_bad_row_fails_alone_and_with_its_own_status(judges):
    rows = [{}, ADELIE, {**ADELIE, "body_mass_g": 99999}, "x", {**ADELIE, "bill_depth_mm": 20}]
    found = judges["penguins"].judge({"instances": rows}, BY_ROW)
    assert {index: failure.status for index, failure in found.failures.items()} == {0: 422, 2: 400, 3: 422}
    assert [np.float32(18.7), 20.0] == found.matrix[:, 1].tolist()
    assert len(found) == 5


def test_by_row_what_is_around_the_rows_must_still_be_right(judges):
    assert InvalidInstance is type(_refused(judges["penguins"], {"instances": [ADELIE], "x": 1}, BY_ROW))


def test_a_certain_mix_up_is_converted_when_asked(judges):
    found = judges["penguins"].judge({**ADELIE, "body_mass_g": 3.75, "flipper_length_mm": 18.1}, CONVERT)
    assert found.is_single
    assert np.array([VALUES], dtype=np.float32).tolist() == found.matrix.tolist()
    assert {
        0: (Conversion("flipper_length_mm", "cm", 18.1, 181.0), Conversion("body_mass_g", "kg", 3.75, 3750.0))
    } == found.conversions


def test_the_converted_value_is_the_one_the_model_gets(judges):
    found = judges["penguins"].judge({**ADELIE, "flipper_length_mm": 7.13}, CONVERT)
    assert found.matrix[0, 2] == np.float32(found.conversions[0][0].value)


def test_in_a_batch_the_converted_rows_are_told_by_position(judges):
    rows = [ADELIE, {**ADELIE, "body_mass_g": 3.75}]
    found = judges["penguins"].judge({"instances": rows}, CONVERT)
    assert list(found.conversions) == [1]
    assert found.matrix[0].tolist() == found.matrix[1].tolist()


def test_in_a_row_given_as_an_array_units_are_converted_too(judges):
    found = judges["penguins"].judge(
        {"instances": [[3.75, 39.1, 18.7, 181]], "features": [NAMES[3], *NAMES[:3]]}, CONVERT
    )
    assert np.array([VALUES], dtype=np.float32).tolist() == found.matrix.tolist()


def _pounds_or_kilograms(judge: Judge) -> dict[str, object]:
    """Return a row whose mass makes sense in two units and whose other values do not settle which."""
    for mass in np.arange(4.5, 9.0, 0.1):
        body = {**ADELIE, "body_mass_g": round(float(mass), 1)}
        try:
            judge.judge(body, CONVERT)
        except ImplausibleValue:
            return body
    raise AssertionError("every mass was certain")


def test_an_uncertain_mix_up_is_refused_with_its_readings_even_when_asked_to_convert(judges):
    body = _pounds_or_kilograms(judges["penguins"])
    refusal = _refused(judges["penguins"], body, CONVERT)
    assert [(p.pointer, p.code) for p in refusal.problems] == [("/body_mass_g", "unit")]
    assert "in kilograms it would be" in refusal.problems[0].message
    assert "in pounds it would be" in refusal.problems[0].message
    assert refusal.problems[0].suggestion is not None


def test_the_other_values_settle_which_unit_was_meant(judges):
    # 3,400 g would be a kilogram too much in pounds, beside the measurements of a small Adelie
    light = judges["penguins"].judge({**ADELIE, "body_mass_g": 8.3}, CONVERT)
    assert [(c.unit, c.given) for c in light.conversions[0]] == [("lb", 8.3)]
    assert pytest.approx(light.conversions[0][0].value, abs=0.1) == 3764.8


MIXED = {
    "a value out of range": {**ADELIE, "flipper_length_mm": 7.13, "body_mass_g": 99999},
    "a missing value": _without({**ADELIE, "flipper_length_mm": 7.13}, "body_mass_g"),
    "an unknown feature": {**ADELIE, "flipper_length_mm": 7.13, "island": 1},
}


@pytest.mark.parametrize("body", MIXED.values(), ids=MIXED.keys())
def test_beside_another_fault_nothing_is_converted(judges, body):
    refusal = _refused(judges["penguins"], body, CONVERT)
    assert {"unit"} < {p.code for p in refusal.problems}
    assert ("in", 181.1) in [p.suggestion for p in refusal.problems]


def test_conversion_and_row_errors_go_together(judges):
    rows = [{**ADELIE, "body_mass_g": 3.75}, {}, ADELIE]
    found = judges["penguins"].judge({"instances": rows}, Options(row_errors=True, convert_units=True))
    assert (list(found.failures), list(found.conversions), len(found.matrix)) == ([1], [0], 2)


def test_beside_null_and_text_units_are_recognised(judges):
    found = judges["plots"].judge({**PLOT, "ph": None, "depth_m": 325}, CONVERT)
    assert [Conversion("depth_m", "cm", 325.0, 3.25)] == list(found.conversions[0])
    assert found.matrix[0, [0, 1, 3]].tolist() == [3.25, 7.0, 0.0]


def test_unusual_values_inside_the_hard_range_are_taken(judges):
    found = judges["iris"].judge({**SETOSA, "petal_width_cm": 0.02}, DEFAULTS)
    assert np.float32(0.02) == found.matrix[0, 3]


@pytest.mark.parametrize("name", ["load", "fields", "dump", "context", "opts", "declared_fields", "class", "unknown"])
def test_a_feature_may_be_called_like_a_member_of_the_schema(judges, plots, name):
    feature = Feature(name=name, description="", dtype="float", hard=(0, 9), plausible=(1, 8))
    manifest = msgspec.structs.replace(plots.manifest, features=(feature,))
    judge = Judge(SimpleNamespace(manifest=manifest), 3)  # type: ignore[arg-type]
    assert judge.judge({name: 5}, DEFAULTS).matrix.tolist() == [[5.0]]
    assert [(f"/{name}", "missing")] == [(p.pointer, p.code) for p in _refused(judge, {}).problems]


VALUE = (
    st.none()
    | st.booleans()
    | st.integers(-100, 100)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["clay", "x"])
)
NAME = st.sampled_from([*PLOT, "island", "load", "fields"])


def test_a_row_is_judged_as_marshmallow_s_own_load_does(judges, plots):
    schema = instance_schema(plots.manifest.features)(unknown=RAISE)

    @settings(max_examples=500, deadline=None)
    @given(changed=st.dictionaries(NAME, VALUE), left_out=st.sets(NAME))
    def agree(changed: dict[str, object], left_out: set[str]) -> None:
        row = {name: value for name, value in {**PLOT, **changed}.items() if name not in left_out}
        expected: Any = []
        found: Any = []
        try:
            schema.load(row)
        except ValidationError as error:
            expected = sorted((name, fault[0].code) for name, fault in error.messages_dict.items())
        try:
            judges["plots"].judge(row, DEFAULTS)
        except ServiceError as refusal:
            found = sorted((p.pointer[1:], p.code) for p in refusal.problems)
        assert found == expected

    agree()


FAULTY: dict[str, object] = {
    "missing": {},
    "unknown": {**ADELIE, "island": 1},
    "type": {**ADELIE, "body_mass_g": "x"},
    "null": {**ADELIE, "body_mass_g": None},
    "range": {**ADELIE, "body_mass_g": 99999},
    "unit": {**ADELIE, "flipper_length_mm": 7.13},
    "no object": 1,
}


@pytest.mark.parametrize("row", FAULTY.values(), ids=FAULTY)
@pytest.mark.parametrize("options", [DEFAULTS, BY_ROW, CONVERT], ids=["refuse", "row", "convert"])
def test_what_was_refused_is_let_go_without_the_garbage_collector(judges, row, options):
    class Value(dict):  # type: ignore[type-arg]
        """Can be counted."""

    gc.collect()
    gc.disable()
    try:
        for body in ({"instances": [row, ADELIE]}, row):
            given = Value(body) if isinstance(body, dict) else body
            with suppress(ServiceError):
                judges["penguins"].judge(given, options)
            del given
        assert not [one for one in gc.get_objects() if type(one) is Value]
    finally:
        gc.enable()


@pytest.fixture(scope="module")
def large(answerers: dict[str, Answerer]) -> Judge:
    """Penguins, batches of at most 10,000."""
    return Judge(answerers["penguins"].require_model().predictor, 10_000)


@pytest.mark.parametrize("count", [1, MAX_PROBLEMS, MOST_COUNTED, MOST_COUNTED + 1, 9_000])
def test_problems_are_counted_up_to_a_bound_and_twenty_are_named(large, count):
    refusal = _refused(large, {"instances": [ADELIE] + [{**ADELIE, "body_mass_g": 99999}] * count})
    detail = f"more than {MOST_COUNTED} problems" if count > MOST_COUNTED else f"{count} problem{'s' * (count > 1)}"
    assert (type(refusal), refusal.detail) == (ImplausibleValue, detail)
    assert [p.pointer for p in refusal.problems] == [
        f"/instances/{row}/body_mass_g" for row in range(1, min(count, MAX_PROBLEMS) + 1)
    ]


@pytest.mark.parametrize("name", [name for name in FAULTY if name not in ("range", "unit")])
@pytest.mark.parametrize("is_table", [False, True], ids=["objects", "arrays"])
def test_a_row_of_the_wrong_shape_after_any_number_of_others_makes_it_422(large, name, is_table):
    faulty: Any = FAULTY[name]
    rows: list[Any] = [{**ADELIE, "body_mass_g": 99999}] * 9_000
    around: dict[str, Any] = {}
    if is_table:
        rows, around = [list(row.values()) for row in rows], {"features": list(ADELIE)}
        faulty = list(faulty.values()) if isinstance(faulty, dict) else faulty
    assert type(_refused(large, {"instances": rows, **around})) is ImplausibleValue
    assert type(_refused(large, {"instances": [*rows, faulty], **around})) is InvalidInstance


def test_a_fault_of_type_after_many_others_in_one_row_makes_it_422():
    features = tuple(
        Feature(name=f"f{i}", description="", dtype="float", hard=(0, 9), plausible=(1, 8)) for i in range(200)
    )
    judge = Judge(
        SimpleNamespace(manifest=SimpleNamespace(features=features, feature_names=[f.name for f in features])), 3
    )  # type: ignore[arg-type]
    row: dict[str, object] = {feature.name: 99.0 for feature in features}
    assert type(_refused(judge, row)) is ImplausibleValue
    assert type(_refused(judge, {**row, "f199": "x"})) is InvalidInstance
    assert type(_refused(judge, {**row, "other": 1})) is InvalidInstance


def test_by_row_what_is_said_about_bad_rows_is_bounded_and_good_ones_are_answered(large, answerer):
    rows: list[Any] = [{}] * 5_000 + [{**ADELIE, "body_mass_g": 99999}, ADELIE]
    found = large.judge({"instances": rows}, BY_ROW)
    named = [index for index, failure in found.failures.items() if failure.problems]
    assert named == list(range(MOST_ROW_PROBLEMS // 4))
    assert [found.failures[index].status for index in (0, 4_999, 5_000)] == [422, 422, 400]
    assert (len(found), len(found.matrix)) == (5_002, 1)

    predictor = answerer.require_model().predictor
    renderer = Renderer(predictor.manifest, "sha256:0", is_fallback=False)
    shown = json.loads(renderer.render(found, predictor.answers(found.matrix), None, explain=False))["predictions"]
    assert set(shown[0]["error"]) == {"type", "title", "status", "detail", "errors"}
    assert shown[4_999]["error"] == {"type": "urn:rookery:problem:invalid-instance", "status": 422}
    assert shown[5_000]["error"] == {"type": "urn:rookery:problem:implausible-value", "status": 400}
    assert shown[5_001]["label"] == "Adelie"


@pytest.mark.parametrize("row_errors", [False, True])
def test_only_so_many_rows_are_converted(large, row_errors):
    options, row = Options(row_errors=row_errors, convert_units=True), {**ADELIE, "body_mass_g": 3.75}
    assert len(large.judge({"instances": [row] * MOST_CONVERTED}, options).conversions) == MOST_CONVERTED
    more = {"instances": [row] * (MOST_CONVERTED + 1)}
    if row_errors:
        found = large.judge(more, options)
        assert (list(found.failures), found.failures[MOST_CONVERTED].status) == ([MOST_CONVERTED], 400)
    else:
        refusal = _refused(large, more, options)
        assert [(p.pointer, p.code) for p in refusal.problems] == [(f"/instances/{MOST_CONVERTED}/body_mass_g", "unit")]
