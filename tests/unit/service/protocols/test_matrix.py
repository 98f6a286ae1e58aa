"""No kind of bad request gets a wrong answer, whatever way it comes; the published table says what it gets."""

from __future__ import annotations

from tests.conftest import ROOT

from .matrix import COLUMNS, KINDS, MOST_ROWS, document, measure


def test_nothing_bad_is_answered_wrongly_and_the_table_says_what_is_said(build):
    found = measure(build(max_instances=MOST_ROWS))
    cells = [cell for row in found.values() for cell in row.values()]
    assert len(found) == len(KINDS) == 16
    assert len(cells) == 16 * len(COLUMNS)
    assert [str(cell) for cell in cells if cell.is_wrong or cell.answer.status >= 500] == []
    assert (ROOT / "docs/bad-input-matrix.md").read_text() == document(found)
