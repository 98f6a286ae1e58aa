"""Manifests that contradict themselves, consistent in every hash: each kind of member is tried with each odd value.

`python -m tests.soak.structures bundles/penguins/<digest>` prints what became of all of them.
"""

from __future__ import annotations

import copy
import json
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from model import manifest as manifests
from model import predictor, verify
from model.errors import BundleError
from model.manifest import Part
from model.predictor import Predictor
from model.verify import VerifiedBundle
from service.answer import Answerer
from service.app import create_app
from service.config import Settings
from service.events import Events
from service.loader import Ready
from service.monitor import Monitor
from service.tally import Tally

Path_ = tuple[str | int, ...]

# what JSON writes for each; the last ones are no JSON, or beyond what a float64 holds
NUMBERS = (
    "0", "-0.0", "-1", "1", "0.5", "1.5", "2", "2147483648", "4294967296", "9007199254740993", "9223372036854775807",
    "9223372036854775808", "18446744073709551616", "18446744073709551623", "1e308", "-1e308", "5e-324", "1e-300",
    "1e400", "1" + "0" * 5_000, "-1" + "0" * 5_000, "NaN", "Infinity", "-Infinity", "null", '"1"', "true", "[]",
)  # fmt: skip
TEXTS = ("", " ", "x" * 5000, "a\nb", "\u0000", '"};<script>', "\ud83d\ude00", "e\u0301")
MOST_ELEMENTS = 1_000_000


@dataclass(frozen=True)
class Edit:
    """One change of a manifest.

    Attributes:
        where: the member, with `*` for positions.
        what: the change in words.
        raw: the bytes of the changed manifest.
    """

    where: str
    what: str
    raw: bytes


@dataclass
class Outcome:
    """What became of the edits.

    Attributes:
        counts: `refused: <code>`, `unchanged` or `served`.
        faults: every edit that was neither refused nor served well, in words.
    """

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


class _Memory:
    """A bundle in memory, whose files are as the manifest says; see `model.verify.Source`."""

    def __init__(self, raw: bytes, files: dict[str, bytes]) -> None:
        self._raw, self._files = raw, files

    def manifest(self, expected_digest: str | None) -> bytes:
        """See `Source.manifest`."""
        verify.check_digest(self._raw, expected_digest)
        return self._raw

    def rest(self, parts: Sequence[Part], *, with_signature: bool) -> tuple[dict[str, bytes], bytes | None]:
        """See `Source.rest`."""
        found = {}
        for part in parts:
            if part.name not in self._files:
                raise BundleError("file_missing", part.name)
            found[part.name] = self._files[part.name]
            verify.check_part(part, found[part.name])
        return found, None


def edits(raw: bytes, seed: int) -> Iterator[Edit]:
    """Yield every odd value for every kind of member, each at a random position of its kind."""
    document = json.loads(raw)
    random = Random(seed)
    kinds: dict[str, list[Path_]] = {}
    for path in _paths(document, ()):
        kinds.setdefault(".".join("*" if isinstance(step, int) else step for step in path), []).append(path)
    for where, paths in kinds.items():
        for what, change in _changes(_at(document, paths[0])):
            path = random.choice(paths)
            yield Edit(where, what, _written(document, path, change))


def _paths(value: Any, path: Path_) -> Iterator[Path_]:
    """Yield where everything in a document is."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _paths(child, (*path, key))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _paths(child, (*path, index))


def _at(document: Any, path: Path_) -> Any:
    for step in path:
        document = document[step]
    return document


def _written(document: Any, path: Path_, change: Callable[[Any], str]) -> bytes:
    """Return the document with one value in other words."""
    # only the branch to the value is copied
    mark = "\x01here\x01"
    root = branch = copy.copy(document)
    for step in path[:-1]:
        branch[step] = copy.copy(branch[step])
        branch = branch[step]
    value = branch[path[-1]]
    branch[path[-1]] = mark
    return json.dumps(root).replace(json.dumps(mark), change(value), 1).encode("utf-8", "surrogatepass")


def _changes(value: Any) -> list[tuple[str, Callable[[Any], str]]]:
    """Return the changes for a value of a kind."""
    if isinstance(value, list):
        found: list[tuple[str, Callable[[Any], str]]] = [
            ("empty", lambda v: "[]"),
            ("one less", lambda v: json.dumps(v[:-1])),
            ("one more", lambda v: json.dumps([*v, *v[-1:]])),
            ("reversed", lambda v: json.dumps(v[::-1])),
            ("all the same", lambda v: json.dumps([v[0]] * len(v) if v else v)),
            ("first twice", lambda v: json.dumps([v[0], v[0], *v[2:]] if v else v)),
            ("a thousand times", lambda v: json.dumps(v * 1000 if len(v) < 50 else v * 10)),
            ("null", lambda v: "null"),
        ]
        if not value or isinstance(value[0], (int, float)):
            found += [
                ("huge", lambda v: json.dumps([0] * MOST_ELEMENTS)),
                ("zeros", lambda v: json.dumps([0] * len(v))),
                ("negative", lambda v: json.dumps([-1] * len(v))),
                ("1e308", lambda v: json.dumps([1e308] * len(v))),
                ("2^63", lambda v: json.dumps([2**63] * len(v))),
                ("ascending", lambda v: json.dumps(list(range(len(v))))),
                ("descending", lambda v: json.dumps(list(range(len(v), 0, -1)))),
                ("narrow", lambda v: json.dumps([v[0] + i * 1e-9 for i in range(len(v))])),
                ("denormal", lambda v: json.dumps([5e-324] * len(v))),
            ]
        return found
    if isinstance(value, dict):
        return [("empty", lambda v: "{}"), ("null", lambda v: "null"), ("list", lambda v: "[]")]
    if isinstance(value, str):
        return [(f"text {text[:8]!r}", lambda v, text=text: json.dumps(text)) for text in TEXTS] + [
            ("null", lambda v: "null")
        ]
    if isinstance(value, bool):
        return [("otherwise", lambda v: json.dumps(not v)), ("null", lambda v: "null")]
    numbers = [(number, lambda v, number=number: number) for number in NUMBERS]
    return [*numbers, ("negated", lambda v: json.dumps(-v if v else v))]


def serves(found: Predictor) -> Iterator[str]:
    """Ask every route of a service around a predictor, as one that listens would be asked; yield what is wrong."""
    lines = _Lines()
    logging.getLogger("service").addHandler(lines)
    try:
        state, settings = Ready(found), Settings(feedback=True, event_rate=1.0)
        tally = Tally(state)
        answerer = Answerer(state, settings, Monitor([Events(state, settings), tally]))
        app = create_app(settings, answerer, tally)
        client = app.test_client()
        instance = manifests.example(found.manifest)
        many = [_named(found, row) for row in found.manifest.golden.rows[:40]]
        name = found.manifest.name
        v2 = {"inputs": [{"name": f.name, "shape": [1], "datatype": "BYTES" if f.is_category else "FP64",
                          "data": [instance[f.name]]} for f in found.manifest.features]}  # fmt: skip
        calls: list[tuple[str, Any]] = [
            ("/predict", instance), ("/predict?explain=true", instance), ("/predict", {"instances": many}),
            ("/predict?on_error=row", {"instances": many}), ("/predict?explain=true", {"instances": many[:3]}),
            *(("/predict", {**instance, f.name: value}) for f in found.manifest.features
              for value in (None, "x", True, 0, -1, 1e308, 5e-324, 2**53, 17.3)),
            ("/invocations", {"instances": many[:3]}), ("/v1/models/" + name + ":predict", {"instances": many[:3]}),
            ("/v2/models/" + name + "/infer", v2),
        ]  # fmt: skip
        for path, body in calls:
            answered = client.post(path, json=body)
            if answered.status_code >= 500:
                yield f"POST {path[:60]} {answered.status_code}"
        answerer.monitor.flush()
        for rule in app.url_map.iter_rules():
            if "GET" in (rule.methods or ()) and not rule.arguments:
                answered = client.get(rule.rule)
                if answered.status_code >= 500:
                    yield f"GET {rule.rule} {answered.status_code}"
                elif "json" in answered.content_type and ("NaN" in answered.text or "Infinity" in answered.text):
                    yield f"GET {rule.rule} is no JSON"
        if client.get("/metrics", headers={"Accept": "application/openmetrics-text"}).status_code >= 500:
            yield "GET /metrics as OpenMetrics 500"
    finally:
        logging.getLogger("service").removeHandler(lines)
    yield from sorted(set(lines.found))


class _Lines(logging.Handler):
    """Collects what was logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        error = record.exc_info[1] if record.exc_info else None
        self.found.append(f"{record.getMessage()} {error!r}"[:200])


def _named(found: Predictor, row: Sequence[float | None]) -> dict[str, Any]:
    """Return a golden row by name."""
    pairs = zip(found.manifest.features, row, strict=True)
    return {f.name: f.values[int(v)] if f.is_category and v is not None else v for f, v in pairs}


def try_one(edit: Edit, source: VerifiedBundle, known: np.ndarray, matrix: np.ndarray) -> tuple[str, list[str]]:
    """Return what became of one edit, and what is wrong about that."""
    if edit.raw == source.raw_manifest:
        return "unchanged", []
    if len(edit.raw) > manifests.MAX_MANIFEST_BYTES:
        return "refused: size_mismatch", []
    try:
        bundle = verify.read(_Memory(edit.raw, dict(source.files)), only="default")
        found = predictor.load(bundle)
    except BundleError as error:
        if len(error.reason) > 500:
            return "refused", [f"a reason of {len(error.reason)} characters"]
        return f"refused: {error.code}", []
    except Exception as error:  # noqa: BLE001 - what the loader would call load_failed
        return "raised", [f"raised {error!r}"[:200]]
    wrong = [] if matrix.shape[1] == len(found.manifest.features) else ["another width"]
    if not wrong and not np.allclose(found.predict(matrix).probabilities, known, atol=1e-5):
        wrong.append("other answers")
    try:
        wrong += serves(found)
    except Exception as error:  # noqa: BLE001 - a service that does not even start
        wrong.append(f"no service: {error!r}"[:200])
    return "served", wrong


def run(folder: Path, seed: int = 1, part: float = 1.0) -> Outcome:
    """Try all edits of a bundle, or a random part of them."""
    source = verify.read(folder)
    plain = predictor.load(source)
    matrix = plain.golden_matrix()[:64]
    known = plain.predict(matrix).probabilities
    outcome, random = Outcome(), Random(seed)
    # the control: unchanged, everything is answered
    outcome.faults += [f"unchanged: {wrong}" for wrong in serves(plain)]
    for edit in edits(source.raw_manifest, seed):
        if random.random() >= part:
            continue
        end, wrong = try_one(edit, source, known, matrix)
        outcome.counts[end] += 1
        outcome.faults += [f"{edit.where} {edit.what}: {line}" for line in wrong]
    return outcome


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        seen = run(Path(argument))
        print(argument, dict(seen.counts))
        print("\n".join(seen.faults))
        print(f"{len(seen.faults)} faults")
