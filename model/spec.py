"""Reads a spec file: the one place where a person says what the model's inputs are and how it is trained."""

from __future__ import annotations

import difflib
import hashlib
import re
import tomllib
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from model.domain import NULL_WORDS
from model.errors import SpecError

NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
RESERVED = ("instances", "features", "base", "Meta")
# what people write for a value that is not there
USUAL_NULL_WORDS = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?", "-")
FEATURE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


class FeatureSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One `[[features]]` table: a column of the CSV, what its values mean, and its own words for a missing one."""

    name: str
    description: str
    dtype: Literal["float", "int", "category"] = "float"
    unit: str = ""
    hard: tuple[float, float] | None = None
    plausible: tuple[float, float] | None = None
    nullable: bool = False
    confused_with: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    null: tuple[str, ...] | None = None


class LabelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `[label]` table: the column to be predicted; `label = "name"` says the same as a table with a name alone.

    `positive` is the class that `scale_pos_weight` and `base_score` are about; `null` are words, besides the empty
    cell, that stand for a missing label: their rows are left out, and counted.
    """

    name: str
    positive: str | None = None
    null: tuple[str, ...] = ()


class JitterSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `[algorithm.jitter]` table: learn from noisy copies too, as if each animal had been measured again.

    `copies` per row, each number moved by Gaussian noise of `scale` times the column's standard deviation; a row and
    its copies weigh together as much as one row. Training with noise is a smoothing penalty (Bishop 1995).
    """

    copies: int
    scale: float


class AlgorithmSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `[algorithm]` table: what learns, with the parameters its library knows.

    `rounds` is the number of trees (per class, for boosting); `scaler` standardises the inputs of a linear model.
    `calibrate` is `auto` (temperature scaling if it lowers the calibration error) or `never`; `engine` is `auto`
    (the fastest form that is proven), `tables` or `onnx` (required), or `xgboost`. With `class_weight = "balanced"`
    every class weighs the same in training, however rare; nothing else is weighted.
    """

    name: Literal["xgboost", "logistic_regression", "random_forest", "gradient_boosting"]
    rounds: int = 100
    scaler: bool = False
    jitter: JitterSpec | None = None
    params: dict[str, Any] = {}
    calibrate: Literal["auto", "never"] = "auto"
    engine: Literal["auto", "tables", "onnx", "xgboost"] = "auto"
    class_weight: Literal["balanced"] | None = None


class SplitSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `[split]` table: repeated stratified cross-validation."""

    folds: int = 10
    repeats: int = 5


class DataSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `[data]` table: where the rows are and where they come from."""

    path: str
    source: str
    licence: str
    null: tuple[str, ...] = NULL_WORDS


class Spec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole spec file."""

    name: str
    version: str
    serial: int
    title: str
    label: str | LabelSpec
    seed: int
    intended_use: str
    limits: tuple[str, ...]
    data: DataSpec
    algorithm: AlgorithmSpec
    features: tuple[FeatureSpec, ...]
    split: SplitSpec = SplitSpec()
    expires: str | None = None
    novelty_threshold: float = 0.99
    coverage: float = 0.99

    @property
    def target(self) -> LabelSpec:
        """What is said about the label."""
        return self.label if isinstance(self.label, LabelSpec) else LabelSpec(self.label)


@dataclass(frozen=True)
class LoadedSpec:
    """A spec with the file it came from.

    Attributes:
        path: the file.
        text: its content, for locating keys in error messages.
        digest: `sha256:<64 hex>` of its bytes.
        spec: the parsed content.
    """

    path: Path
    text: str
    digest: str
    spec: Spec

    @property
    def data_path(self) -> Path:
        """The CSV file; a relative path in the spec is relative to the spec."""
        return (self.path.parent / self.spec.data.path).resolve()

    def error(self, keys: str, reason: str) -> SpecError:
        """Return a SpecError at a key given as `features[2].hard`."""
        return SpecError(str(self.path), line_of(self.text, keys), reason)


def load(path: Path) -> LoadedSpec:
    """Read and check a spec file.

    Raises:
        SpecError: the file is missing, is not TOML, or says something a model cannot be trained from.
    """
    try:
        raw = path.read_bytes()
        text = raw.decode()
    except OSError as error:
        raise SpecError(str(path), None, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SpecError(str(path), None, "is not UTF-8 text") from error
    try:
        tables = tomllib.loads(text)
        spec = msgspec.convert(tables, Spec)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        raise SpecError(str(path), int(found[1]) if found else None, f"is not TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise _explain(str(path), text, str(error)) from error
    loaded = LoadedSpec(path, text, "sha256:" + hashlib.sha256(raw).hexdigest(), spec)
    _check_head(loaded)
    if spec.algorithm.name == "logistic_regression" and "rounds" in tables["algorithm"]:
        raise loaded.error("algorithm.rounds", "logistic regression has no rounds; drop it, or set `max_iter`")
    for index in range(len(spec.features)):
        _check_feature(loaded, index)
    return loaded


def _explain(path: str, text: str, message: str) -> SpecError:
    """Turn msgspec's message and path into one line with a place and, for a misspelt key, the key meant."""
    message, _, keys = message.partition(" - at `$")
    keys = keys.rstrip("`").lstrip(".")
    unknown = re.search(r"unknown field `(.+)`", message)
    if unknown:
        known = _known_keys(keys)
        near = difflib.get_close_matches(unknown[1], known, n=1)
        hint = f"; did you mean `{near[0]}`?" if near else f"; known keys: {', '.join(known)}"
        keys = f"{keys}.{unknown[1]}".lstrip(".")
        return SpecError(path, line_of(text, keys), f"unknown key `{unknown[1]}`{hint}")
    where = f"`{keys}`: " if keys else ""
    return SpecError(path, line_of(text, keys), f"{where}{message[:1].lower()}{message[1:]}")


def _known_keys(table: str) -> list[str]:
    """Return the keys a table of the spec may hold."""
    kinds = {"algorithm.jitter": JitterSpec, "algorithm": AlgorithmSpec, "split": SplitSpec, "data": DataSpec}
    struct = FeatureSpec if table.startswith("features") else {**kinds, "label": LabelSpec}.get(table, Spec)
    return list(struct.__struct_fields__)


def _check_head(loaded: LoadedSpec) -> None:
    """Check everything outside `[[features]]`."""
    spec = loaded.spec
    checks = [
        ("name", bool(NAME.fullmatch(spec.name)), "must be lower-case letters, digits, `-` and `_`"),
        ("version", 0 < len(spec.version) <= 32, "must have 1 to 32 characters"),
        ("seed", 0 <= spec.seed < 2**31, "must be a whole number from 0 to 2147483647"),
        ("expires", spec.expires is None or _is_date(spec.expires), 'must be a date such as "2027-12-31"'),
        ("serial", spec.serial >= 1, "must be a whole number from 1 that grows with every release"),
        ("features", bool(spec.features), "must name at least one feature"),
        ("split.folds", 2 <= spec.split.folds <= 50, "must be 2 to 50"),
        ("split.repeats", 1 <= spec.split.repeats <= 50, "must be 1 to 50"),
        ("algorithm.rounds", 1 <= spec.algorithm.rounds <= 10_000, "must be 1 to 10000"),
        ("novelty_threshold", 0.5 <= spec.novelty_threshold < 1, "must be 0.5 up to, not including, 1"),
        ("coverage", spec.coverage in (0.9, 0.95, 0.99), "must be 0.9, 0.95 or 0.99"),
    ]
    for keys, good, reason in checks:
        if not good:
            raise loaded.error(keys, f"`{keys}` {reason}")
    if spec.algorithm.scaler and spec.algorithm.name != "logistic_regression":
        raise loaded.error(
            "algorithm.scaler", "a scaler before trees cannot be proven equal; drop it, trees do not need it"
        )
    jitter = spec.algorithm.jitter
    if jitter is not None and spec.algorithm.name != "xgboost":
        raise loaded.error("algorithm.jitter", "jitter is for xgboost only")
    if jitter is not None and not (1 <= jitter.copies <= 100 and 0 < jitter.scale <= 1):
        raise loaded.error("algorithm.jitter", "jitter needs 1 to 100 `copies` and a `scale` above 0, up to 1")
    if spec.algorithm.engine in ("tables", "xgboost") and spec.algorithm.name != "xgboost":
        raise loaded.error(
            "algorithm.engine", f"only an xgboost model can be served by the {spec.algorithm.engine} engine"
        )
    names = [feature.name for feature in spec.features]
    for index, name in enumerate(names):
        if name in RESERVED:
            raise loaded.error(f"features[{index}].name", f"`{name}` names a part of a request or an answer; rename it")
        if name in names[:index] or name == spec.target.name:
            raise loaded.error(f"features[{index}].name", f"`{name}` is used twice")
    if spec.target.positive in ("", *spec.target.null):
        raise loaded.error("label.positive", f"{spec.target.positive!r} stands for a missing label too; drop one")


def _is_date(text: str) -> bool:
    """Whether a text is an ISO 8601 date or date and time."""
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _check_feature(loaded: LoadedSpec, index: int) -> None:
    """Check one feature: a category needs values, a number needs two ranges, one inside the other."""
    feature, at = loaded.spec.features[index], f"features[{index}]"
    if not FEATURE_NAME.fullmatch(feature.name):
        raise loaded.error(f"{at}.name", f"`{feature.name}` must be letters, digits and `_`, not starting with a digit")
    if feature.nullable and loaded.spec.algorithm.name != "xgboost":
        raise loaded.error(f"{at}.nullable", f"{loaded.spec.algorithm.name} takes no missing values; use xgboost")
    if feature.dtype == "category":
        if len(feature.values) < 2 or len(set(feature.values)) < len(feature.values):
            raise loaded.error(f"{at}.values", f"category `{feature.name}` needs `values`, at least two, all different")
        _check_values(loaded, feature, f"{at}.values")
        for key in ("hard", "plausible", "unit", "confused_with"):
            if getattr(feature, key):
                raise loaded.error(f"{at}.{key}", f"category `{feature.name}` takes no `{key}`")
        return
    if feature.values:
        raise loaded.error(f"{at}.values", f'`values` is for categories; set dtype = "category" for `{feature.name}`')
    if feature.hard is None or feature.plausible is None:
        raise loaded.error(at, f"number `{feature.name}` needs `hard = [low, high]` and `plausible = [low, high]`")
    (hard_low, hard_high), (low, high) = feature.hard, feature.plausible
    if not -3e38 < hard_low <= low < high <= hard_high < 3e38:
        raise loaded.error(
            f"{at}.plausible", f"`{feature.name}`: `plausible` must be a range inside `hard`, both within float32"
        )
    if feature.confused_with and not feature.unit:
        raise loaded.error(f"{at}.confused_with", f"`{feature.name}` has confused units but no `unit`")


def _check_values(loaded: LoadedSpec, feature: FeatureSpec, at: str) -> None:
    """Check that every value of a category can be read from a cell."""
    words = null_words(loaded.spec, feature)
    null = next((value for value in feature.values if value in words), None)
    if null is not None:
        remedy = f"drop one, or give the feature a `null` of its own without {null!r}"
        raise loaded.error(at, f"`{feature.name}`: {null!r} stands for a missing value too; {remedy}")
    spaced = next((value for value in feature.values if value != value.strip()), None)
    if spaced is not None:
        raise loaded.error(at, f"`{feature.name}`: {spaced!r} has spaces around it, which no cell keeps; drop them")


def null_words(spec: Spec, feature: FeatureSpec) -> tuple[str, ...]:
    """Return the words for a missing value of a feature, without spaces around them, each once, in a fixed order."""
    given = spec.data.null if feature.null is None else feature.null
    words = tuple(sorted({word.strip() for word in given}))
    return NULL_WORDS if words == NULL_WORDS else words


def line_of(text: str, keys: str) -> int | None:
    """Find where a key stands in a TOML file.

    Args:
        text: the file.
        keys: `name`, `algorithm.rounds` or `features[2].hard[0]`; positions after the last key are ignored.

    Returns:
        The 1-based line of the key, else of its table's header, else None.
    """
    steps = re.findall(r"([\w-]+)(?:\[(\d+)\])?", keys)
    names, index = [name for name, _ in steps], int(steps[0][1] or 0) if steps else 0
    table: list[str] = []
    seen: Counter[str] = Counter()
    deepest, found = 0, None
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*\[\[?\s*([\w.-]+)\s*\]", line)
        key = re.match(r'\s*"?([\w.-]+)"?\s*=', line)
        if header:
            seen[header[1]] += 1
            table = here = header[1].split(".")
        elif key:
            here = [*table, *key[1].split(".")]
        else:
            continue
        is_wanted = here == names[: len(here)] and (not table or seen[".".join(table)] == index + 1)
        if is_wanted and len(here) > deepest:
            deepest, found = len(here), number
    return found
