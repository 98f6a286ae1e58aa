"""The parts of a form that every protocol shares."""

from __future__ import annotations

import pytest

from service.errors import ImplausibleValue, Problem, RouteNotFound, spell
from service.form import Call, Form
from service.instances import DEFAULTS


def test_a_refusal_is_spelt_in_one_line():
    problems = [Problem("/instances/1/x", "range", "9 is outside 0 to 5"), Problem("", "unknown", "is not known")]
    assert spell(ImplausibleValue(problems)) == (
        "implausible-value: 2 problems: /instances/1/x range: 9 is outside 0 to 5; / unknown: is not known"
    )
    assert spell(RouteNotFound(detail="see /docs")) == "not-found: see /docs"


def test_a_form_has_to_say_how_it_is_read():
    form = Form()
    with pytest.raises(NotImplementedError):
        form.open(Call(b""))
    with pytest.raises(NotImplementedError):
        form.decode(b"", DEFAULTS)
