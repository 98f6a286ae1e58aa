"""Query parameters are a closed list; instances know how many they are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from service.errors import ImplausibleValue, InvalidParameter
from service.instances import DEFAULTS, MOST_PARAMETERS, Instances, Options, parse_options, row_pointer, wanted

KNOWN = {"explain": ("true", "false"), "on_error": ("row", "refuse"), "on_unit": ("convert", "refuse")}


@pytest.mark.parametrize("query", ["", "&", "&&"])
def test_no_parameters_mean_the_defaults(query):
    assert Options(explain=False, row_errors=False, convert_units=False) == parse_options(query)


@pytest.mark.parametrize("chosen", list(itertools.product(*KNOWN.values())), ids="-".join)
def test_every_combination_of_known_values_is_read(chosen):
    query = "&".join(f"{name}={value}" for name, value in zip(KNOWN, chosen, strict=True))
    assert Options(chosen[0] == "true", chosen[1] == "row", chosen[2] == "convert") == parse_options(query)


def test_escapes_are_read():
    assert Options(explain=True) == parse_options("%65xplain=tru%65")


WRONG = {
    "unknown": ("explian=true", "unknown", "parameter 'explian' is not known; known: explain, on_error, on_unit"),
    "another case": ("Explain=true", "unknown", "parameter 'Explain' is not known; known: explain, on_error, on_unit"),
    "twice": ("explain=true&explain=true", "ambiguous", "parameter 'explain' stands twice"),
    "another value": ("on_error=skip", "type", "parameter 'on_error' must be one of row, refuse"),
    "a value in another case": ("explain=True", "type", "parameter 'explain' must be one of true, false"),
    "no value": ("explain", "type", "parameter 'explain' must be one of true, false"),
    "an empty value": ("explain=", "type", "parameter 'explain' must be one of true, false"),
}


@pytest.mark.parametrize(("query", "code", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_parameter_is_refused_by_name(query, code, message):
    with pytest.raises(InvalidParameter) as refused:
        parse_options(query)
    assert [("", code, message)] == [(p.pointer, p.code, p.message) for p in refused.value.problems]


@pytest.mark.parametrize("more", [0, 1])
def test_a_query_with_too_many_parameters_is_not_read(more):
    with pytest.raises(InvalidParameter) as refused:
        parse_options("&".join(["a=1"] * (MOST_PARAMETERS + more)))
    assert len(refused.value.problems) == (1 if more else MOST_PARAMETERS)


SPELT = {
    "plainly": ("explain=true", True),
    "with escapes": ("%65xplain=t%72ue", True),
    "among others": ("on_error=row&%65%78%70%6c%61%69%6e=true", True),
    "after nothing": ("&&explain=true&", True),
    "as false": ("explain=false", False),
    "in another case": ("EXPLAIN=true", False),
    "twice": ("explain=true&%65xplain=true", False),
    "with a semicolon": ("on_error=row;explain=true", False),
    "with a space": ("explain=+true", False),
    "escaped twice": ("%2565xplain=true", False),
    "beside an unknown one": ("explain=true&x=1", False),
    "in a value": ("x=explain=true", False),
}


@pytest.mark.parametrize(("query", "explains"), SPELT.values(), ids=SPELT)
def test_an_explanation_is_wanted_as_the_options_are_read_however_it_is_spelt(query, explains):
    assert wanted(query).explain is explains
    try:
        assert parse_options(query).explain is explains
    except InvalidParameter:
        assert wanted(query) is DEFAULTS


def test_every_wrong_parameter_is_named():
    with pytest.raises(InvalidParameter) as refused:
        parse_options("a=1&explain=1&on_unit=refuse&b=2")
    assert [p.code for p in refused.value.problems] == ["unknown", "type", "unknown"]


def test_a_long_name_is_not_repeated_whole():
    with pytest.raises(InvalidParameter) as refused:
        parse_options("n" * 10_000 + "=1")
    assert refused.value.problems[0].message.count("n" * 64) == 0
    assert refused.value.problems[0].message.startswith("parameter '" + "n" * 63 + "…'")


def test_failures_count_as_instances():
    matrix = np.zeros((3, 2), dtype=np.float32)
    assert len(Instances(matrix, is_single=False, failures={0: ImplausibleValue(), 4: ImplausibleValue()})) == 5


@pytest.mark.parametrize(
    ("index", "steps", "expected"),
    [
        (None, (), ""),
        (None, ("a",), "/a"),
        (2, (), "/instances/2"),
        (2, ("a/b",), "/instances/2/a~1b"),
        (0, (1,), "/instances/0/1"),
    ],
)
def test_a_row_is_pointed_at(index, steps, expected):
    assert expected == row_pointer(index, *steps)
