"""An answerer whose model fails in the middle of a prediction: what the caller learns of it is for the tests."""

from __future__ import annotations

from dataclasses import replace

from model.predictor import Predictor
from service.answer import Answerer
from service.config import Settings


class FailingPredictor:
    """Looks like a good predictor until it is used."""

    def __init__(self, good: Predictor, error: Exception) -> None:
        """Speak of the same model."""
        self.manifest, self.bundle, self._error = good.manifest, good.bundle, error

    @property
    def engine(self) -> object:
        """Fail."""
        raise self._error

    def answers(self, matrix: object) -> object:
        """Fail."""
        raise self._error


def failing(good: Answerer, error: Exception, settings: Settings) -> Answerer:
    """Return an answerer for the same model, which fails."""
    state = good.require_model()
    return Answerer(replace(state, predictor=FailingPredictor(state.predictor, error)), settings)  # type: ignore[arg-type]
