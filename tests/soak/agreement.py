"""What must hold for any bytes at all: nothing but our refusals, and one meaning whichever way they are read."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import numpy as np
import orjson

from model.manifest import Manifest
from model.predictor import Predictor
from service import decode, encodings
from service.accept import Accept
from service.decode import Limits
from service.errors import MAX_REPLY_BYTES, ServiceError, to_reply
from service.instances import DEFAULTS, Instances, Options
from service.schemas import Judge

MAX_INSTANCES = 3
LIMIT_BYTES = 64 << 10
LENIENT = Options(row_errors=True, convert_units=True)


class Disagreement(Exception):
    """Two ways to read a body differ, or a reply is not as promised."""


class Ways:
    """The ways in for one model: fast accept, the schema for unusual rows alone, and the schema for all."""

    def __init__(self, predictor: Predictor) -> None:
        """Derive them from the manifest."""
        self._manifest: Manifest = predictor.manifest
        self._accept = Accept(predictor.manifest, MAX_INSTANCES)
        self._judge = Judge(predictor, MAX_INSTANCES)
        self._mixed = Judge(predictor, MAX_INSTANCES, self._accept.lay_out)
        self._limits = Limits.of(predictor.manifest.features, MAX_INSTANCES)

    def check(self, body: bytes) -> str:
        """Read a body every way, and say what became of it: refused, judged or accepted.

        Raises:
            Disagreement: the ways differ; or anything else that is no refusal.
        """
        for header in ("gzip", "deflate"):
            with suppress(ServiceError):
                if len(encodings.decoded(body, header, LIMIT_BYTES)) > LIMIT_BYTES:
                    raise Disagreement("decompressed over the limit")
        try:
            decode.refuse_excess(body, self._limits)
        except ServiceError as error:
            return _refused(error)
        for options in (DEFAULTS, LENIENT):
            if _outcome(self._mixed, decode.read, body, options) != _outcome(self._judge, decode.strict, body, options):
                raise Disagreement("judged otherwise among ordinary rows")
        fast = self._accept.accept(body)
        try:
            slow = self._judge.judge(decode.strict(body), DEFAULTS)
        except ServiceError as error:
            if fast is not None:
                raise Disagreement("accepted, but the schema refuses it") from error
            self._judge_leniently(body)
            return _refused(error)
        self._refuse_odd(slow)
        if fast is None:
            return "judged"
        if _meaning(fast) != _meaning(slow):
            raise Disagreement("accepted with another matrix")
        return "accepted"

    def _judge_leniently(self, body: bytes) -> None:
        """Answer what can be answered of a refused body."""
        with suppress(ServiceError):
            self._refuse_odd(self._judge.judge(decode.strict(body), LENIENT))

    def _refuse_odd(self, instances: Instances) -> None:
        """Check that nothing reaches the model that is not a number within its range, or null where that is allowed."""
        for column, feature in zip(instances.matrix.T, self._manifest.features, strict=True):
            if np.isinf(column).any() or (np.isnan(column).any() and not feature.nullable):
                raise Disagreement(f"{feature.name} is not a number")
            low, high = (0, len(feature.values) - 1) if feature.is_category else feature.hard
            known = column[~np.isnan(column)]
            if not ((known >= np.float32(low)) & (known <= np.float32(high))).all():
                raise Disagreement(f"{feature.name} is out of its range")


def _outcome(judge: Judge, read: Callable[[bytes], object], body: bytes, options: Options) -> object:
    """Return all that must be equal of what a schema says: instances, or the bytes of the refusal."""
    try:
        return _meaning(judge.judge(read(body), options))
    except ServiceError as error:
        return _document(error)


def _document(error: ServiceError) -> bytes:
    """Return the bytes of a refusal."""
    return to_reply(error, "test-1", ()).body


def _meaning(instances: Instances) -> tuple[object, ...]:
    """Return all that must be equal."""
    matrix = instances.matrix
    failures = {index: _document(error) for index, error in instances.failures.items()}
    rest = len(instances), failures, dict(instances.conversions)
    return instances.is_single, matrix.shape, matrix.dtype, matrix.tobytes(), *rest


def _refused(error: ServiceError) -> str:
    """Check the refusal that the caller would get."""
    reply = to_reply(error, "test-1", ())
    if len(reply.body) > MAX_REPLY_BYTES or len(orjson.loads(reply.body).get("errors", ())) > 20:
        raise Disagreement("the refusal is too long")
    if not 400 <= reply.status < 500:
        raise Disagreement(f"refused with {reply.status}")
    return "refused"
