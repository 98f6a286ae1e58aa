"""What the service must say, computed in process from the model alone, without the service's own code."""

from __future__ import annotations

from typing import Any

from model.domain import FloatMatrix
from model.predictor import Predictor


def answers(predictor: Predictor, matrix: FloatMatrix, *, explain: bool = False) -> list[dict[str, Any]]:
    """Return the `predictions` of a batch.

    Args:
        predictor: on the engine of the server.
        matrix: float32, shape (n, d).
        explain: with contributions.
    """
    manifest = predictor.manifest
    prediction = predictor.predict(matrix)
    contributions = predictor.explain(matrix, prediction.classes) if explain else None
    rows = []
    for i in range(len(matrix)):
        label = int(prediction.classes[i])
        row: dict[str, Any] = {
            "prediction": label,
            "label": manifest.classes[label],
            "probabilities": {
                name: float(p) for name, p in zip(manifest.classes, prediction.probabilities[i], strict=True)
            },
            "prediction_set": [
                name for name, member in zip(manifest.classes, prediction.sets[i], strict=True) if member
            ],
            "novelty": float(prediction.novelty[i]),
            "is_novel": bool(prediction.is_novel[i]),
        }
        if contributions is not None:
            values = {name: float(v) for name, v in zip(manifest.feature_names, contributions.values[i], strict=True)}
            row["contributions"] = {**values, "base": float(contributions.base[i])}
        rows.append(row)
    return rows


def model_member(predictor: Predictor) -> dict[str, Any]:
    """Return the `model` member of every answer."""
    manifest = predictor.manifest
    return {
        "name": manifest.name,
        "version": manifest.version,
        "digest": predictor.bundle.digest,
        "fallback": False,
    }


def named(predictor: Predictor, matrix: FloatMatrix) -> list[dict[str, float]]:
    """Return rows as instances; the decimal text of a float32 reads back as the same float32."""
    names = predictor.manifest.feature_names
    return [dict(zip(names, map(float, map(str, row)), strict=True)) for row in matrix]
