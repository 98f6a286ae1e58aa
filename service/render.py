"""Answers as JSON bytes: the exact float64 values, in the shape of the HTTP contract."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import Any

import orjson

from model.explain import Contributions
from model.manifest import Manifest
from model.predictor import Answer
from service.errors import document
from service.instances import Instances


class Renderer:
    """Renders predictions of one bundle."""

    def __init__(self, manifest: Manifest, digest: str, is_fallback: bool) -> None:
        """Prepare what is the same in every answer."""
        self._classes = manifest.classes
        self._features = manifest.feature_names
        model = {"name": manifest.name, "version": manifest.version, "digest": digest, "fallback": is_fallback}
        self._model = orjson.Fragment(orjson.dumps(model))

    def render(
        self, instances: Instances, answers: Sequence[Answer], contributions: Contributions | None, explain: bool
    ) -> bytes:
        """Return the body of a 200.

        Args:
            instances: what was asked; rows that failed are answered with their error.
            answers: of the good rows, in order.
            contributions: of the good rows; None where there is no way to compute them.
            explain: whether contributions were asked for.
        """
        members = [self._members(answer) for answer in answers]
        if explain:
            self._add_contributions(members, contributions)
        rows = _merge(members, instances)
        if instances.is_single:
            rows[0]["model"] = self._model
            return orjson.dumps(rows[0])
        return orjson.dumps({"predictions": rows, "model": self._model})

    def _members(self, answer: Answer) -> dict[str, Any]:
        """Return one answer as an object of the HTTP contract."""
        classes = self._classes
        index, probabilities, members, novelty, is_novel = answer
        return {
            "prediction": index,
            "label": classes[index],
            "probabilities": dict(zip(classes, probabilities, strict=True)),
            "prediction_set": list(compress(classes, members)),
            "novelty": novelty,
            "is_novel": is_novel,
        }

    def _add_contributions(self, answers: list[dict[str, Any]], contributions: Contributions | None) -> None:
        """Add contributions per feature with their base, or null."""
        if contributions is None:
            for answer in answers:
                answer["contributions"] = None
            return
        for answer, values, base in zip(
            answers, contributions.values.tolist(), contributions.base.tolist(), strict=True
        ):
            answer["contributions"] = {**dict(zip(self._features, values, strict=True)), "base": base}


def _merge(answers: list[dict[str, Any]], instances: Instances) -> Sequence[dict[str, Any]]:
    """Put failures and conversions in their places."""
    if not instances.failures and not instances.conversions:
        return answers
    good = iter(answers)
    rows = []
    for index in range(len(instances)):
        failure = instances.failures.get(index)
        row: dict[str, Any] = {"error": document(failure)} if failure is not None else next(good)
        converted = instances.conversions.get(index)
        if converted:
            row["converted"] = [
                {"feature": c.feature, "unit": c.unit, "given": c.given, "value": c.value} for c in converted
            ]
        rows.append(row)
    return rows
