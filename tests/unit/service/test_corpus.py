"""The bodies that fuzzing found worth keeping, read again every way; `python -m tests.soak.fuzz --keep` renews them."""

from __future__ import annotations

import pytest

from service.answer import Answerer
from tests.conftest import ROOT
from tests.soak.agreement import Disagreement, Ways

CORPUS = sorted((ROOT / "tests/corpus").iterdir())


@pytest.fixture(scope="module")
def ways(answerers: dict[str, Answerer]) -> dict[str, Ways]:
    """Both ways in for every model."""
    return {name: Ways(answerer.require_model().predictor) for name, answerer in answerers.items()}


@pytest.mark.parametrize("name", ["penguins", "iris", "plots"])
def test_every_kept_body_has_one_meaning(ways, name):
    outcomes = {ways[name].check(path.read_bytes()) for path in CORPUS}
    assert "refused" in outcomes


def test_the_corpus_is_small_and_takes_every_way(ways):
    assert 20 <= len(CORPUS) < 200
    assert sum(path.stat().st_size for path in CORPUS) < 200 << 10
    outcomes = {way.check(path.read_bytes()) for way in ways.values() for path in CORPUS}
    assert outcomes == {"refused", "judged", "accepted"}


def test_a_disagreement_is_noticed(ways):
    both = ways["penguins"]
    body = b'{"bill_length_mm":39.1,"bill_depth_mm":18.7,"flipper_length_mm":181,"body_mass_g":3750}'
    assert both.check(body) == "accepted"

    class Credulous:
        """Accepts anything as what is accepted first."""

        def accept(self, _: bytes) -> object:
            return ways["penguins"]._accept.accept(body)

    fooled = Ways.__new__(Ways)
    fooled.__dict__.update({**both.__dict__, "_accept": Credulous()})
    for other in (b"{}", body.replace(b"39.1", b"39.2")):
        with pytest.raises(Disagreement):
            fooled.check(other)
