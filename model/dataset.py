"""Reads the training CSV the way the service reads an instance: the same names, ranges and units."""

from __future__ import annotations

import hashlib
import io
import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pint import UnitRegistry

from model.cells import named
from model.domain import ConfusedUnit, Feature, FloatMatrix, Value, to_matrix
from model.errors import DataError
from model.spec import USUAL_NULL_WORDS, FeatureSpec, LoadedSpec, null_words
from model.table import Table, locate, parse

MIN_ROWS = 50
CHUNK_ROWS = 4096
# classes named in a message
MOST_NAMED = 10


@dataclass(frozen=True)
class Dataset:
    """The rows a model is trained on.

    Attributes:
        features: d features with their confused units resolved.
        classes: k class names in order: alphabetical, whole numbers by value.
        matrix: float32, shape (n, d).
        labels: shape (n,), positions in `classes`.
        lines: shape (n,), the line of each row in the file; the header is line 1.
        dropped: why rows were left out, such as `size_mm is "NA"`, with their lines; one row may have several reasons.
        unused: columns that are neither a feature nor the label.
        missing: nullable feature → word for a missing value → how many cells of the rows above hold it.
        digest: `sha256:<hex>` of the file's bytes.
    """

    features: tuple[Feature, ...]
    classes: tuple[str, ...]
    matrix: FloatMatrix
    labels: NDArray[np.intp]
    lines: NDArray[np.intp]
    dropped: Mapping[str, tuple[int, ...]]
    unused: tuple[str, ...]
    missing: Mapping[str, Mapping[str, int]]
    digest: str

    @property
    def dropped_lines(self) -> tuple[int, ...]:
        """The lines left out because a value that must be given is not."""
        return tuple(sorted(set().union(*self.dropped.values())))


def load(loaded: LoadedSpec) -> Dataset:
    """Read the CSV a spec names.

    Raises:
        SpecError: a unit of the spec is unknown or does not measure the same thing.
        DataError: the file cannot be read or does not hold what the spec describes; names line and column.
    """
    spec, path = loaded.spec, loaded.data_path
    features = tuple(resolve_units(loaded, index) for index in range(len(spec.features)))
    raw, table = _read(path)
    target = spec.target
    header = locate(path, table.header_line, table.header, [*(f.name for f in features), target.name])
    rows: list[list[Value]] = []
    texts: list[str] = []
    lines: list[int] = []
    dropped: dict[str, list[int]] = defaultdict(list)
    missing: dict[str, Counter[str]] = defaultdict(Counter)
    label_nulls = {"", *(word.strip() for word in target.null)}
    for line, cells in (record for chunk in table.chunks(CHUNK_ROWS) for record in chunk):
        if len(cells) != len(table.header):
            raise DataError(str(path), line, None, f"has {len(cells)} cells, the header has {len(table.header)}")
        values = [parse(path, line, f, cells[header[f.name]]) for f in features]
        label = cells[header[target.name]].strip()
        absent = {f: cells[header[f.name]].strip() for f, v in zip(features, values, strict=True) if v is None}
        reasons = [f"{f.name} is {named(word)}" for f, word in absent.items() if not f.nullable]
        if label in label_nulls:
            reasons.append(f"{target.name}, the label, is {named(label)}")
        if reasons:
            for reason in reasons:
                dropped[reason].append(line)
            continue
        for feature, word in absent.items():
            missing[feature.name][word] += 1
        rows.append(values)
        texts.append(label)
        lines.append(line)
    classes = _classes(loaded, texts)
    matrix = to_matrix(features, rows)
    _refuse_constants(path, features, matrix)
    position = {name: index for index, name in enumerate(classes)}
    return Dataset(
        features=features,
        classes=classes,
        matrix=matrix,
        labels=np.array([position[text] for text in texts], dtype=np.intp),
        lines=np.array(lines, dtype=np.intp),
        dropped={reason: tuple(found) for reason, found in dropped.items()},
        unused=tuple(name for name in header if name != target.name and name not in {f.name for f in features}),
        missing=missing,
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
        null=null_words(loaded.spec, feature),
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


def _read(path: Path) -> tuple[bytes, Table]:
    """Return the file's bytes and its table."""
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise DataError(str(path), None, None, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(str(path), line, None, "is not UTF-8 text") from error
    return raw, Table(str(path), io.StringIO(text, newline=""))


def _classes(loaded: LoadedSpec, texts: list[str]) -> tuple[str, ...]:
    """Return the class names in order, refusing what cannot be learned."""
    path, label, folds = loaded.data_path, loaded.spec.target.name, loaded.spec.split.folds
    counts = Counter(texts)
    if len(texts) < MIN_ROWS:
        raise DataError(str(path), None, None, f"has {len(texts)} usable rows, at least {MIN_ROWS} are needed")
    if len(counts) == 1:
        raise DataError(str(path), None, label, f"has only one class, {next(iter(counts))!r}; two are needed")
    given = [text for text in counts if text not in USUAL_NULL_WORDS]
    if len(counts) > 20 and len(counts) > len(texts) / 10 and all(map(_is_number, given)):
        raise DataError(
            str(path), None, label, f"has {len(counts)} different numbers: regression is not supported, only classes"
        )
    name, least = counts.most_common()[-1]
    if least < folds:
        remedy = (
            f'; if it stands for a missing label, add [label] null = ["{name}"]' if name in USUAL_NULL_WORDS else ""
        )
        reason = f"class {name!r} has {least} rows, fewer than the {folds} folds{remedy}"
        raise DataError(str(path), None, label, reason)
    positive = loaded.spec.target.positive
    if positive is not None and positive not in counts:
        known = ", ".join(sorted(counts)[:MOST_NAMED])
        raise loaded.error("label.positive", f"{positive!r} is no class; the classes are {known}")
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
