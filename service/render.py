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
from service.errors import row_document
from service.instances import Instances, Options
from service.remembered import Remembered

# kinds of answers, which differ in more than their numbers; a handful in practice
MOST_KINDS = 4_096

# a prediction set of so many classes is a number of 64 bits
MOST_CLASSES = 40


class Renderer:
    """Renders predictions of one bundle."""

    def __init__(self, manifest: Manifest, digest: str, is_fallback: bool) -> None:
        """Prepare what is the same in every answer."""
        self._classes = manifest.classes
        self._features = manifest.feature_names
        self._texts: dict[tuple[int, bool, tuple[bool, ...]], tuple[bytes, ...]] = {}
        self._kinds = Remembered(self._texts_of_kind)
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
        *texts, last = self._texts_of(answer)
        numbers = orjson.dumps([*answer.probabilities, answer.novelty])[1:-1].split(b",")
        parts = [part for pair in zip(texts, numbers, strict=True) for part in pair]
        return b'%b%b,"model":%b}' % (b"".join(parts), last[:-1], self._model)

    def render_batch(self, prediction: Prediction) -> bytes:
        """Return the body of a 200 to a batch of which nothing but answers is to be said.

        The same bytes as `render`, without an object a row: texts and numbers in turn, column by column.
        """
        count, width = prediction.sets.shape
        if not count:
            return b'{"predictions":[],"model":%b}' % self._model
        weights = 2 ** np.arange(width, dtype=np.int64)
        kinds = ((prediction.sets @ weights * width + prediction.classes) * 2 + prediction.is_novel).tolist()
        if len(self._kinds) > MOST_KINDS:
            self._kinds.clear()
        # of each row: its texts, and between them its numbers
        texts = zip(*map(self._kinds.__getitem__, kinds), strict=True)
        step = 2 * width + 3
        parts = [b""] * (count * step)
        for place, column in enumerate(texts):
            parts[2 * place :: step] = column
        numbers = np.column_stack([prediction.probabilities, prediction.novelty]).ravel()
        told = orjson.dumps(numbers, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
        for place in range(width + 1):
            parts[2 * place + 1 :: step] = told[place :: width + 1]
        parts[0] = b'{"predictions":[' + parts[0]
        parts[-1] = b'%b],"model":%b}' % (parts[-1][:-1], self._model)
        return b"".join(parts)

    def rows(self, prediction: Prediction) -> bytes:
        """Return the objects of a batch, separated by commas, as `render_batch` has them."""
        if len(self._classes) > MOST_CLASSES:
            return orjson.dumps([self._members(answer) for answer in prediction.answers()])[1:-1]
        return self.render_batch(prediction)[len(b'{"predictions":[') : -len(b'],"model":}') - len(self._model)]

    def _texts_of_kind(self, kind: int) -> tuple[bytes, ...]:
        """Return the texts of a batch's rows of one kind, as `render_batch` numbers them, with a comma at the end."""
        rest, is_novel = divmod(kind, 2)
        members, prediction = divmod(rest, len(self._classes))
        sets = [bool(members >> place & 1) for place in range(len(self._classes))]
        *texts, last = self._cut_texts(Answer(prediction, [], sets, 0.0, bool(is_novel)))
        return (*texts, last + b",")

    def _texts_of(self, answer: Answer) -> tuple[bytes, ...]:
        """Return the texts around an answer's numbers; there are few kinds of them."""
        key = answer.prediction, answer.is_novel, tuple(answer.members)
        found = self._texts.get(key)
        if found is None:
            found = self._cut_texts(answer)
            if len(self._texts) >= MOST_KINDS:
                self._texts.clear()
            self._texts[key] = found
        return found

    def _cut_texts(self, answer: Answer) -> tuple[bytes, ...]:
        """Write what `_members` would give, without its k probabilities and novelty: k + 2 texts."""
        names = [orjson.dumps(name) for name in self._classes]
        label = names[answer.prediction]
        return (
            b'{"prediction":%d,"label":%b,"probabilities":{%b:' % (answer.prediction, label, names[0]),
            *(b",%b:" % name for name in names[1:]),
            b'},"prediction_set":[%b],"novelty":' % b",".join(compress(names, answer.members)),
            b',"is_novel":%b}' % (b"true" if answer.is_novel else b"false"),
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
        row: dict[str, Any] = {"error": row_document(failure)} if failure is not None else next(good)
        converted = instances.conversions.get(index)
        if converted:
            row["converted"] = [
                {"feature": c.feature, "unit": c.unit, "given": c.given, "value": c.value} for c in converted
            ]
        rows.append(row)
    return rows
