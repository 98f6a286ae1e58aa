"""Small requests that cost much keep nobody out: single rows are answered beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from load.percentiles import percentile
from tests.conftest import Tell

from . import costly
from .conftest import Shared
from .costly import COSTLY, HONEST, SHORT

# the statuses that the costly requests themselves may have
TAKEN, REFUSED = {200, 503}, {400, 422, 503}


@pytest.fixture(params=["true", "false"], ids=["fast", "plain"])
def port(request: pytest.FixtureRequest, shared: Shared, bundles: dict[str, Path]) -> int:
    """Where the penguins are served, with and without the fast path."""
    return shared({"FAST_PATH": request.param, "MODEL_URI": str(bundles["penguins"])}).port


@pytest.mark.parametrize("name", SHORT)
def test_single_rows_are_answered_beside_clients_whose_requests_cost_much(port: int, name: str, tell: Tell) -> None:
    found = costly.beside(port, COSTLY[name])
    worst = max(found.seconds) * 1000
    tell(f"G6: {name}: {found.statuses[200]} of {HONEST}, p50 {percentile(found.seconds, 50) * 1000:.1f} ms, "
         f"at most {worst:.0f} ms, beside {dict(found.others)}")  # fmt: skip
    assert found.statuses == {200: HONEST}
    assert found.others.keys() <= TAKEN | REFUSED
    assert found.others.keys() & {200, 400, 422}


def test_the_same_requests_with_one_row_are_answered(port: int) -> None:
    with costly.sent(port, costly.SINGLE) as others:
        statuses, _ = costly.ask_singly(port)
    assert (statuses, set(others)) == ({200: HONEST}, {200})
