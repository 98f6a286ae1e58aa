"""Reads the training CSV the way the service reads an instance: the same names, ranges and units."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pint import UnitRegistry

from model.domain import ConfusedUnit, Feature, FloatMatrix, Value, to_matrix
from model.errors import DataError
from model.spec import FeatureSpec, LoadedSpec
from model.table import locate, parse

MIN_ROWS = 50


@dataclass(frozen=True)
class Dataset:
    """The rows a model is trained on.

    Attributes:
        features: d features with their confused units resolved.
        classes: k class names in order: alphabetical, whole numbers by value.
        matrix: float32, shape (n, d).
        labels: shape (n,), positions in `classes`.
        lines: shape (n,), the line of each row in the file; the header is line 1.
        dropped_lines: lines left out because a value that must be given is not.
        digest: `sha256:<hex>` of the file's bytes.
    """

    features: tuple[Feature, ...]
    classes: tuple[str, ...]
    matrix: FloatMatrix
    labels: NDArray[np.intp]
    lines: NDArray[np.intp]
    dropped_lines: tuple[int, ...]
    digest: str


def load(loaded: LoadedSpec) -> Dataset:
    """Read the CSV a spec names.

    Raises:
        SpecError: a unit of the spec is unknown or does not measure the same thing.
        DataError: the file cannot be read or does not hold what the spec describes; names line and column.
    """
    spec, path = loaded.spec, loaded.data_path
    features = tuple(resolve_units(loaded, index) for index in range(len(spec.features)))
    raw, table = _read(path)
    header = locate(path, table[0][0], table[0][1], [*(f.name for f in features), spec.label])
    rows: list[list[Value]] = []
    texts: list[str] = []
    lines: list[int] = []
    dropped: list[int] = []
    for line, cells in table[1:]:
        if len(cells) != len(table[0][1]):
            raise DataError(str(path), line, None, f"has {len(cells)} cells, the header has {len(table[0][1])}")
        values = [parse(path, line, f, cells[header[f.name]], spec.data.null) for f in features]
        label = cells[header[spec.label]].strip()
        missing = any(v is None and not f.nullable for v, f in zip(values, features, strict=True))
        if missing or label in spec.data.null:
            dropped.append(line)
            continue
        rows.append(values)
        texts.append(label)
        lines.append(line)
    classes = _classes(path, spec.label, texts, spec.split.folds)
    matrix = to_matrix(features, rows)
    _refuse_constants(path, features, matrix)
    position = {name: index for index, name in enumerate(classes)}
    return Dataset(
        features=features,
        classes=classes,
        matrix=matrix,
        labels=np.array([position[text] for text in texts], dtype=np.intp),
        lines=np.array(lines, dtype=np.intp),
        dropped_lines=tuple(dropped),
        digest="sha256:" + hashlib.sha256(raw).hexdigest(),
    )


def resolve_units(loaded: LoadedSpec, index: int) -> Feature:
    """Turn one feature of a spec into the manifest's form, with a factor for every confused unit.

    Raises:
        SpecError: a unit is not known, or measures something else.
    """
    feature = loaded.spec.features[index]
    units = tuple(_conversion(loaded, index, feature, symbol) for symbol in feature.confused_with)
    return Feature(
        name=feature.name,
        description=feature.description,
        dtype=feature.dtype,
        unit=feature.unit,
        hard=feature.hard or (0.0, 0.0),
        plausible=feature.plausible or (0.0, 0.0),
        nullable=feature.nullable,
        confused_units=units,
        values=feature.values,
    )


_UNITS: UnitRegistry[float] = UnitRegistry()
_PLURALS = {
    "inch": "inches",
    "foot": "feet",
    "degree_Celsius": "degrees Celsius",
    "degree_Fahrenheit": "degrees Fahrenheit",
}


def _conversion(loaded: LoadedSpec, index: int, feature: FeatureSpec, symbol: str) -> ConfusedUnit:
    """Ask pint how one unit converts into another."""
    try:
        zero, one, two = (_UNITS.Quantity(value, symbol).to(feature.unit).magnitude for value in (0.0, 1.0, 2.0))
        singular = str(_UNITS.Unit(symbol))
    except Exception as error:  # pint's parser raises whatever occurs to it
        why = str(error) or type(error).__name__
        reason = f"`{feature.name}`: {symbol!r} cannot be converted to {feature.unit!r}: {why}"
        raise loaded.error(f"features[{index}].confused_with", reason) from error
    if not math.isclose(two - one, one - zero, rel_tol=1e-9):
        reason = f"`{feature.name}`: {symbol!r} is not a linear scale of {feature.unit!r}"
        raise loaded.error(f"features[{index}].confused_with", reason)
    name = _PLURALS.get(singular, singular.replace("_", " ") + "s")
    # pint adds up decimal factors in binary; twelve digits are more than any unit's definition has
    return ConfusedUnit(symbol=symbol, name=name, factor=float(f"{one - zero:.12g}"), offset=float(f"{zero:.12g}"))


def _read(path: Path) -> tuple[bytes, list[tuple[int, list[str]]]]:
    """Return the file's bytes and its non-empty lines as cells, with their line numbers."""
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise DataError(str(path), None, None, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(str(path), line, None, "is not UTF-8 text") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    table: list[tuple[int, list[str]]] = []
    line = 1
    try:
        for cells in reader:
            if cells:
                table.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(str(path), line, None, f"is not CSV: {error}") from error
    if not table:
        raise DataError(str(path), None, None, "is empty; the first line must name the columns")
    return raw, table


def _classes(path: Path, label: str, texts: list[str], folds: int) -> tuple[str, ...]:
    """Return the class names in order, refusing what cannot be learned."""
    counts = Counter(texts)
    if len(texts) < MIN_ROWS:
        raise DataError(str(path), None, None, f"has {len(texts)} usable rows, at least {MIN_ROWS} are needed")
    if len(counts) == 1:
        raise DataError(str(path), None, label, f"has only one class, {next(iter(counts))!r}; two are needed")
    if len(counts) > 20 and len(counts) > len(texts) / 10 and all(_is_number(text) for text in counts):
        raise DataError(
            str(path), None, label, f"has {len(counts)} different numbers: regression is not supported, only classes"
        )
    name, least = counts.most_common()[-1]
    if least < folds:
        raise DataError(str(path), None, label, f"class {name!r} has {least} rows, fewer than the {folds} folds")
    if all(text.isdecimal() and text.isascii() for text in counts):
        return tuple(sorted(counts, key=int))
    return tuple(sorted(counts))


def _is_number(text: str) -> bool:
    """Whether a label looks like a measurement."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _refuse_constants(path: Path, features: tuple[Feature, ...], matrix: FloatMatrix) -> None:
    """Refuse a column that says nothing: it is usually a mistake in the export."""
    for column, feature in enumerate(features):
        values = matrix[:, column]
        values = values[~np.isnan(values)]
        if len(values) == 0 or (values == values[0]).all():
            raise DataError(str(path), None, feature.name, "has the same value in every row; remove it from the spec")
