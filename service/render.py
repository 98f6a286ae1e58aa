"""Answers as JSON bytes: the exact float64 values, in the shape of the HTTP contract."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import Any

import numpy as np
import orjson

from model.explain import Contributions
from model.manifest import Manifest
from model.predictor import Answer, Prediction
from service.errors import document
from service.instances import Instances, Options

# of answers that differ in more than their numbers; a handful in practice
MOST_TEMPLATES = 4_096


# a prediction set of so many classes is a number of 64 bits
MOST_CLASSES = 40


class Renderer:
    """Renders predictions of one bundle."""

    def __init__(self, manifest: Manifest, digest: str, is_fallback: bool) -> None:
        """Prepare what is the same in every answer."""
        self._classes = manifest.classes
        self._features = manifest.feature_names
        self._templates: dict[tuple[int, bool, tuple[bool, ...]], bytes] = {}
        model = {"name": manifest.name, "version": manifest.version, "digest": digest, "fallback": is_fallback}
        self._model = orjson.dumps(model)

    def is_plain_batch(self, instances: Instances, options: Options) -> bool:
        """Whether `render_batch` will do: nothing failed, was converted or is to be explained."""
        is_special = instances.is_single or options.explain or instances.failures or instances.conversions
        return not is_special and len(self._classes) <= MOST_CLASSES

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
        if instances.is_single and not (explain or instances.conversions):
            return self._render_one(answers[0])
        members = [self._members(answer) for answer in answers]
        if explain:
            self._add_contributions(members, contributions)
        rows = _merge(members, instances)
        if instances.is_single:
            return orjson.dumps({**rows[0], "model": orjson.Fragment(self._model)})
        return orjson.dumps({"predictions": rows, "model": orjson.Fragment(self._model)})

    def _render_one(self, answer: Answer) -> bytes:
        """Return the same bytes as the general way, from parts that do not change."""
        texts = orjson.dumps([*answer.probabilities, answer.novelty])[1:-1].split(b",")
        return b'%b,"model":%b}' % ((self._template(answer) % tuple(texts))[:-1], self._model)

    def render_batch(self, prediction: Prediction) -> bytes:
        """Return the body of a 200 to a batch of which nothing but answers is to be said.

        The same bytes as `render`, without an object a row: one text with a place for every number of the batch.
        """
        count, width = prediction.sets.shape
        weights = 2 ** np.arange(width, dtype=np.int64)
        kinds = (prediction.sets @ weights * width + prediction.classes) * 2 + prediction.is_novel
        _, first, of_row = np.unique(kinds, return_index=True, return_inverse=True)
        columns = prediction.classes, prediction.probabilities, prediction.sets, prediction.novelty, prediction.is_novel
        templates = [self._template(Answer(*(column[row].tolist() for column in columns))) for row in first]
        numbers = np.column_stack([prediction.probabilities, prediction.novelty]).ravel().tolist()
        text = b",".join([templates[kind] for kind in of_row.tolist()])
        rows = text % tuple(orjson.dumps(numbers)[1:-1].split(b",")) if count else b""
        return b'{"predictions":[%b],"model":%b}' % (rows, self._model)

    def rows(self, prediction: Prediction) -> bytes:
        """Return the objects of a batch, separated by commas, as `render_batch` has them."""
        if len(self._classes) > MOST_CLASSES:
            return orjson.dumps([self._members(answer) for answer in prediction.answers()])[1:-1]
        return self.render_batch(prediction)[len(b'{"predictions":[') : -len(b'],"model":}') - len(self._model)]

    def _template(self, answer: Answer) -> bytes:
        """Return an answer's object with places for its numbers; there are few kinds of them."""
        key = answer.prediction, answer.is_novel, tuple(answer.members)
        found = self._templates.get(key)
        if found is None:
            found = self._build_template(answer)
            if len(self._templates) >= MOST_TEMPLATES:
                self._templates.clear()
            self._templates[key] = found
        return found

    def _build_template(self, answer: Answer) -> bytes:
        """Write what `_members` would give, a place for each number; per cent signs in names are doubled."""
        names = [orjson.dumps(name).replace(b"%", b"%%") for name in self._classes]
        return (
            b'{"prediction":' + str(answer.prediction).encode() + b',"label":' + names[answer.prediction]
            + b',"probabilities":{' + b",".join(name + b":%b" for name in names)
            + b'},"prediction_set":[' + b",".join(compress(names, answer.members))
            + b'],"novelty":%b,"is_novel":' + (b"true" if answer.is_novel else b"false") + b"}"
        )  # fmt: skip

    def _members(self, answer: Answer) -> dict[str, Any]:
        """Return one answer as an object of the HTTP contract."""
        classes = self._classes
        prediction, probabilities, members, novelty, is_novel = answer
        return {
            "prediction": prediction,
            "label": classes[prediction],
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
