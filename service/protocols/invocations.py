"""`POST /invocations`: MLflow's scoring server in JSON, SageMaker's container contract in CSV."""

from __future__ import annotations

import csv
import io
from codecs import BOM_UTF8
from collections import Counter
from typing import Any, NoReturn

import orjson

from model import cells
from model.domain import Feature
from model.predictor import Prediction
from service import decode
from service.decode import json_type
from service.dialects import Dialect
from service.errors import (
    AmbiguousBody,
    BodyTooLarge,
    InvalidInstance,
    MalformedBody,
    Problem,
    ServiceError,
    echo,
    moved,
    pointer,
)
from service.form import Call, Form, refuse_headers
from service.instances import DEFAULTS, Instances, Options
from service.protocols.intake import Intake
from service.reply import JSON, Headers, Reply

CSV = "text/csv"
LINES = "application/jsonlines"
SPLIT, RECORDS, INSTANCES, INPUTS = "dataframe_split", "dataframe_records", "instances", "inputs"
SHAPES = (SPLIT, RECORDS, INSTANCES, INPUTS)
# of the columns that are ignored, so many are named
MOST_NAMED = 10

Rows = list[Any]


class Invocations(Form):
    """One `POST /invocations`."""

    route = "/invocations"
    content_type = JSON

    def __init__(self, intake: Intake, dialect: Dialect) -> None:
        """Begin.

        Args:
            intake: judges the rows.
            dialect: MLFLOW or SAGEMAKER.
        """
        self._intake, self._dialect = intake, dialect
        self.protocol = dialect.protocol
        self._is_csv = False

    def open(self, call: Call) -> Options:
        """See `Form.open`."""
        refuse_headers(call, (JSON, CSV), (JSON, CSV, LINES))
        self._is_csv = call.content_type.lower().startswith(CSV)
        accepted = call.accept.partition(";")[0].strip().lower()
        self.content_type = accepted if accepted in (CSV, LINES) else JSON
        return DEFAULTS

    def decode(self, body: bytes, options: Options) -> Instances:  # noqa: ARG002 - there are none
        """See `Form.decode`."""
        if self._is_csv:
            return self._table(body)
        decode.refuse_excess(body, self._intake.limits)
        request = decode.read(body, nan_is_null=True)
        if not isinstance(request, dict):
            raise InvalidInstance([Problem("", "type", f"must be an object, not {json_type(request)}")])
        given = [name for name in SHAPES if name in request]
        unknown = [name for name in request if name not in (*SHAPES, "params")]
        if len(given) != 1 or unknown:
            problems = [Problem(pointer(name), "unknown", "is not part of a request") for name in unknown]
            if len(given) != 1:
                message = f"exactly one of {', '.join(SHAPES)} is required"
                problems.append(Problem("", "ambiguous" if given else "missing", message))
            raise InvalidInstance(problems)
        return self._json(given[0], request[given[0]])

    def render(self, instances: Instances, prediction: Prediction) -> bytes:  # noqa: ARG002 - see Form.render
        """See `Form.render`."""
        if self.content_type == CSV:
            return _to_csv(prediction, self._intake.manifest.classes)
        rows = self._intake.renderer.rows(prediction)
        if self.content_type == LINES:
            return b"".join([orjson.dumps(row) + b"\n" for row in orjson.loads(b"[%b]" % rows)])
        return b'{"predictions":[%b]}' % rows

    def refuse(self, error: BaseException, request_id: str, model_headers: Headers) -> Reply:
        """See `Form.refuse`."""
        return self._dialect.refuse(error, request_id, model_headers)

    def _json(self, shape: str, value: Any) -> Instances:
        """Judge rows in one of MLflow's shapes."""
        try:
            if shape == SPLIT:
                return self._split(value)
            if shape == INPUTS and isinstance(value, dict):
                return self._columns(value)
            if isinstance(value, list) and shape != RECORDS and any(isinstance(row, list) for row in value):
                return self._intake.objects_or_arrays(value)
            if isinstance(value, list) and any(isinstance(row, dict) for row in value):
                value = self._without_others(value)
            return self._intake.rows(value)
        except ServiceError as error:
            data, names = (f"/{SPLIT}/data", f"/{SPLIT}/columns") if shape == SPLIT else (f"/{shape}", f"/{shape}")
            raise moved(error, lambda given: _moved(given, data, names)) from error

    def _split(self, value: Any) -> Instances:
        """Judge `{"columns": …, "data": …}`; an index is passed over."""
        if not isinstance(value, dict):
            _refuse("/instances", "type", f"must be an object, not {json_type(value)}")
        for name in ("columns", "data"):
            if not isinstance(value.get(name), list):
                code = "type" if name in value else "missing"
                _refuse("/features" if name == "columns" else "/instances", code, f"{name} must be an array")
        return self._named(value["columns"], value["data"])

    def _columns(self, value: dict[str, Any]) -> Instances:
        """Judge an object with an array for each column."""
        lists = {name: column for name, column in value.items() if isinstance(column, list)}
        if len(lists) != len(value) or len(set(map(len, lists.values()))) > 1:
            _refuse("/instances", "type", "must hold an array for each column, all of the same length")
        names = self._known(list(lists))
        rows = [list(row) for row in zip(*(lists[name] for name in names), strict=True)]
        return self._intake.rows(rows, names)

    def _named(self, columns: list[Any], rows: Rows) -> Instances:
        """Judge rows given as arrays with named columns, of which others than features are passed over."""
        twice = [name for name, count in Counter(map(repr, columns)).items() if count > 1]
        if twice:
            _refuse("/features", "ambiguous", f"{echo(twice[0])} stands twice")
        known = self._known(columns)
        if len(known) == len(columns):
            return self._intake.rows(rows, columns)
        problems = [
            Problem(f"/instances/{index}", "type", f"must be an array of {len(columns)} values, one for each column")
            for index, row in enumerate(rows)
            if not isinstance(row, list) or len(row) != len(columns)
        ]
        if problems:
            raise InvalidInstance(problems)
        places = [columns.index(name) for name in known]
        return self._intake.rows([[row[place] for place in places] for row in rows], known)

    def _without_others(self, rows: Rows) -> Rows:
        """Return rows given as objects without what is no feature."""
        names = set(self._intake.names)
        others = {key: None for row in rows if isinstance(row, dict) for key in row if key not in names}
        if not others:
            return rows
        self._known([*self._intake.names, *others])
        return [{k: v for k, v in row.items() if k in names} if isinstance(row, dict) else row for row in rows]

    def _known(self, columns: list[Any]) -> list[str]:
        """Return the columns that are features; a header of the answer warns of the others."""
        names = frozenset(self._intake.names)
        known: list[str] = []
        others: list[Any] = []
        for name in columns:
            (known if isinstance(name, str) and name in names else others).append(name)
        if others:
            named = ", ".join(_plain(name) for name in others[:MOST_NAMED])
            rest = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
            self.headers = (("Warning", f'299 - "ignored, as no feature: {named}{rest}"'),)
        return known

    def _refuse_excess(self, body: bytes) -> None:
        """Refuse CSV by counting, before anything is built from it."""
        most = self._intake.max_instances
        # a line of names, and the last line's end
        if decode.count(body, b"\n") > most + 2 or decode.count(body, b"\r") > most + 2:
            raise decode.too_many(most)
        if decode.count(body, b",") > most * self._intake.limits.row_commas + decode.SLACK:
            message = "holds more commas than any valid body"
            raise BodyTooLarge([Problem("", "body_too_large", message)])

    def _table(self, body: bytes) -> Instances:
        """Judge CSV: with a row of names, or in the order of the manifest without one."""
        names = self._intake.names
        self._refuse_excess(body)
        lines = _lines(body)
        if not lines:
            raise MalformedBody([Problem("", "malformed", "the body is empty; send a line of CSV for each instance")])
        has_names = any(cell.strip() in names for cell in lines[0])
        if not has_names:
            self._intake.refuse_positional("/instances")
        columns = [cell.strip() for cell in lines[0]] if has_names else names
        rows = lines[1:] if has_names else lines
        problems = [
            Problem(f"/instances/{index}", "missing" if len(row) < len(columns) else "unknown",
                    f"has {len(row)} values for {len(columns)} columns")
            for index, row in enumerate(rows)
            if len(row) != len(columns)
        ]  # fmt: skip
        if problems:
            raise InvalidInstance(problems)
        features = {feature.name: feature for feature in self._intake.features}
        read_as = [features.get(name) for name in columns]
        return self._named(columns, [[_read(of, cell) for of, cell in zip(read_as, row, strict=True)] for row in rows])


def _moved(given: str, data: str, names: str) -> str:
    """Return a pointer into a native batch as one into the caller's body."""
    if given.startswith("/instances"):
        return data + given.removeprefix("/instances")
    return names + given.removeprefix("/features") if given.startswith("/features") else given


def _plain(name: object) -> str:
    """Return the name of a column for a header: printable, without quotation marks."""
    return "".join(c for c in echo(str(name)) if c.isascii() and c.isprintable() and c not in '"\\')


def _lines(body: bytes) -> list[list[str]]:
    """Read CSV strictly, as training does: empty lines do not count, nor does the mark that Excel begins a file with.

    Raises:
        MalformedBody: it is not CSV.
        AmbiguousBody: it is not UTF-8, or holds NUL bytes.
    """
    body = body.removeprefix(BOM_UTF8)
    if b"\x00" in body or body.startswith(decode.BYTE_ORDER_MARKS):
        message = "is UTF-16 or UTF-32, has two byte order marks, or holds NUL bytes; send UTF-8"
        raise AmbiguousBody([Problem("", "ambiguous", message)])
    # decoded piece by piece: a text of the whole body, in four bytes a letter, would be most of what a refusal costs
    text = io.TextIOWrapper(io.BytesIO(body), encoding="utf-8", newline="")
    try:
        return [row for _, row in cells.records(text)]
    except UnicodeDecodeError as error:
        raise AmbiguousBody([Problem("", "ambiguous", f"is not UTF-8 at byte {_broken_at(body)}")]) from error
    except cells.NotCsv as error:
        message = f"line {error.line}: {error.reason}"
        raise MalformedBody([Problem("", "malformed", message)], detail="The body is not CSV") from error


def _broken_at(body: bytes) -> int:
    """Return the position of the first byte that is not UTF-8, the length of the body if all are."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        return error.start
    return len(body)


def _read(feature: Feature | None, cell: str) -> object:
    """Return a cell as JSON would hold it; what is no number stays a text, which the schema refuses."""
    if feature is None:
        return cell
    try:
        return cells.read(feature, cell)
    except ValueError:
        return cell.strip()
    except OverflowError as error:
        raise AmbiguousBody([Problem("", "ambiguous", str(error))]) from error


def _to_csv(prediction: Prediction, classes: tuple[str, ...]) -> bytes:
    """Return a line for each instance: label, then the probability of each class, then novelty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    labels = [classes[index] for index in prediction.classes.tolist()]
    for label, probabilities, novelty in zip(
        labels, prediction.probabilities.tolist(), prediction.novelty.tolist(), strict=True
    ):
        writer.writerow([label, *map(repr, probabilities), repr(novelty)])
    return text.getvalue().encode()


def _refuse(place: str, code: str, message: str) -> NoReturn:
    """Raise the refusal."""
    raise InvalidInstance([Problem(place, code, message)])
