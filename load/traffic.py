"""What is sent: single rows, batches, the protocols, bad input; and what each answer must be."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from load.bundles import Bundle, Instance
from load.servers import TOLERANCE

SEED = 20260101
BATCH_ROWS = 20
RANDOM_ROWS = 500
# weights; a protocol whose route a server has not gets none
PROTOCOLS = {"v2": 3, "v2 binary": 3, "v1": 3, "mlflow": 3, "csv": 3}
MIX: dict[str, int] = {"single": 70, "batch": 10, "bad": 5, **PROTOCOLS}
JSON = {"Content-Type": "application/json"}

Rows = Sequence[tuple[Instance, list[float] | None]]
# status and body of an answer → what is wrong with it, or nothing
Check = Callable[[int, bytes], str]


@dataclass(frozen=True)
class Call:
    """A request with what its answer must be.

    Attributes:
        kind: a key of `MIX`.
        path: where it is posted.
        body: JSON, unless the headers say otherwise.
        check: says in a few words what is wrong with an answer; empty if nothing is.
        headers: of the request.
    """

    kind: str
    path: str
    body: bytes
    check: Check
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)


class Traffic:
    """Words requests for one model, in a seeded order."""

    def __init__(self, bundle: Bundle, mix: Mapping[str, int], seed: int = SEED) -> None:
        """Take the golden rows of a bundle, or random valid rows where it has none.

        Args:
            bundle: features, classes and golden rows.
            mix: weight of each kind.
            seed: of the order.
        """
        self._bundle = bundle
        self._rows: Rows = bundle.golden or [(instance, None) for instance in bundle.instances(RANDOM_ROWS)]
        self._kinds = [kind for kind, weight in mix.items() if weight > 0]
        self._weights = [mix[kind] for kind in self._kinds]
        self._random = random.Random(seed)  # noqa: S311 (nothing secret)
        self._words = {
            "single": self._single,
            "batch": self._batch,
            "bad": self._bad,
            "v2": self._v2,
            "v2 binary": self._v2_binary,
            "v1": self._v1,
            "mlflow": self._mlflow,
            "csv": self._csv,
        }

    def next(self) -> Call:
        """Return the next request."""
        return self.word(self._random.choices(self._kinds, self._weights)[0])

    def word(self, kind: str) -> Call:
        """Return a request of one kind."""
        return self._words[kind]()

    def batch_of(self, rows: int) -> Call:
        """Return a batch of some size."""
        chosen = self._random.choices(self._rows, k=rows)

        def wrong(reply: Any) -> str:
            return self._wrong_rows(chosen, reply["predictions"])

        return Call("batch", "/predict", _json({"instances": [row for row, _ in chosen]}), _answered(wrong))

    def _single(self) -> Call:
        row, known = self._random.choice(self._rows)

        def wrong(reply: Any) -> str:
            if f"sha256:{self._bundle.folder.name}" != reply["model"]["digest"]:
                return f"another model: {reply['model']['digest']}"
            return self._wrong_row(known, reply)

        return Call("single", "/predict", _json(row), _answered(wrong))

    def _batch(self) -> Call:
        return self.batch_of(BATCH_ROWS)

    def _bad(self) -> Call:
        row, _ = self._random.choice(self._rows)
        first, *rest = row
        kept = {name: row[name] for name in rest}
        body, status = self._random.choice(
            [
                (_json(kept), 422),
                (_json({**row, first: str(row[first])}), 422),
                (_json({**row, "no_such_feature": 1}), 422),
                (_json({**row, first: 1e300}), 400),
                (_json(row)[:-1], 400),
                (b'{"a": NaN}', 400),
            ]
        )
        return Call("bad", "/predict", body, _refused(status))

    def _v2(self) -> Call:
        row, known = self._random.choice(self._rows)
        values = list(row.values())
        tensor = {"name": "instances", "shape": [1, len(values)], "datatype": "FP64", "data": values}
        return Call("v2", self._v2_path, _json({"inputs": [tensor]}), self._tensors(known))

    def _v2_binary(self) -> Call:
        """Send what `tritonclient` sends by default: raw tensors after the JSON, one a feature."""
        row, known = self._random.choice(self._rows)
        size = {"binary_data_size": struct.calcsize("<d")}
        tensors = [{"name": name, "shape": [1], "datatype": "FP64", "parameters": size} for name in row]
        head = _json({"inputs": tensors})
        headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
        body = head + struct.pack(f"<{len(row)}d", *row.values())
        return Call("v2 binary", self._v2_path, body, self._tensors(known), headers)

    @property
    def _v2_path(self) -> str:
        return f"/v2/models/{self._bundle.name}/infer"

    def _tensors(self, known: list[float] | None) -> Check:
        """Compare the tensors of an answer to one row."""

        def wrong(reply: Any) -> str:
            outputs = {output["name"]: output["data"] for output in reply["outputs"]}
            return self._wrong_answer(known, outputs["probabilities"], outputs["label"][0])

        return _answered(wrong)

    def _v1(self) -> Call:
        rows = self._random.choices(self._rows, k=2)
        body = _json({"instances": [row for row, _ in rows]})
        path = f"/v1/models/{self._bundle.name}:predict"
        return Call("v1", path, body, _answered(lambda reply: self._wrong_rows(rows, reply["predictions"])))

    def _mlflow(self) -> Call:
        rows = self._random.choices(self._rows, k=2)
        split = {"columns": list(rows[0][0]), "data": [list(row.values()) for row, _ in rows]}
        body = _json({"dataframe_split": split})
        return Call(
            "mlflow", "/invocations", body, _answered(lambda reply: self._wrong_rows(rows, reply["predictions"]))
        )

    def _csv(self) -> Call:
        """Send what SageMaker sends: a table, its first line the names."""
        rows = self._random.choices(self._rows, k=2)
        lines = [",".join(rows[0][0]), *(",".join(map(repr, row.values())) for row, _ in rows)]
        check = _answered(lambda reply: self._wrong_rows(rows, reply["predictions"]))
        return Call("csv", "/invocations", "\n".join([*lines, ""]).encode(), check, {"Content-Type": "text/csv"})

    def _wrong_rows(self, rows: Rows, replies: Sequence[Any]) -> str:
        """Compare the answers of many rows, in order."""
        if len(rows) != len(replies):
            return f"{len(replies)} answers to {len(rows)} rows"
        pairs = zip(rows, replies, strict=True)
        return next((wrong for (_, known), reply in pairs if (wrong := self._wrong_row(known, reply))), "")

    def _wrong_row(self, known: list[float] | None, reply: Any) -> str:
        """Compare the answer to one row."""
        if isinstance(reply, str):
            return self._wrong_answer(known, None, reply)
        probabilities = reply["probabilities"]
        if tuple(probabilities) != self._bundle.classes:
            return f"other classes: {list(probabilities)}"
        return self._wrong_answer(known, list(probabilities.values()), reply["label"])

    def _wrong_answer(self, known: list[float] | None, found: Sequence[float] | None, label: str) -> str:
        """Compare with the golden answer, or with what every answer keeps where none is known."""
        expected = known or found
        if expected is None or len(expected) != len(self._bundle.classes):
            return f"not {len(self._bundle.classes)} probabilities: {found}"
        if found is not None and abs(sum(found) - 1) > TOLERANCE:
            return f"probabilities add up to {sum(found)}"
        if label != self._bundle.classes[max(range(len(expected)), key=expected.__getitem__)]:
            return f"label {label} with {expected}"
        if found is not None and max(abs(a - b) for a, b in zip(found, expected, strict=True)) > TOLERANCE:
            return f"{found} where {expected} is known"
        return ""


def _answered(wrong: Callable[[Any], str]) -> Check:
    """Ask for 200 and a right answer."""

    def check(status: int, body: bytes) -> str:
        if status != 200:
            return f"status {status}"
        try:
            found = wrong(json.loads(body))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            return f"wrong answer: not what the route answers ({type(error).__name__})"
        return found and f"wrong answer: {found}"

    return check


def _refused(expected: int) -> Check:
    """Ask for one status and the refusal's format."""

    def check(status: int, body: bytes) -> str:
        if status != expected:
            return f"bad input: status {status} where {expected} is due"
        try:
            told = json.loads(body)
        except ValueError:
            return "bad input: the refusal is not JSON"
        return "" if told.get("status") == expected else "bad input: the refusal does not say its status"

    return check


def _json(value: object) -> bytes:
    return json.dumps(value).encode()
