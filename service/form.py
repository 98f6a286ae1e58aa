"""How a protocol is spoken: a way in, a way out, and its form of a refusal, all around the one answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from model.explain import Contributions
from model.predictor import Answer, Prediction
from service.errors import ServiceError
from service.instances import Instances, Options
from service.reply import Headers, Reply


class Call(NamedTuple):
    """One request for predictions, as a door hands it over; header values as they came, empty when absent."""

    body: bytes
    query: str = ""
    content_type: str = ""
    content_encoding: str = ""
    accept: str = ""
    request_id: str = ""
    forwarded: str = ""
    peer: str = ""
    traceparent: str = ""
    cloud_trace: str = ""
    wait_seconds: float = 0.0


class Form:
    """Translates between one protocol and the answer; it judges nothing itself and predicts nothing.

    Attributes:
        protocol: label of metrics and logs, from a closed list.
        route: the path as the documents write it.
        content_type: of a 200.
        headers: further headers of a 200.
    """

    protocol: ClassVar[str]
    route: ClassVar[str]
    content_type: str
    headers: Headers = ()

    def open(self, call: Call) -> Options:
        """Judge headers and query before the body is looked at.

        Raises:
            ServiceError: they are not understood.
        """
        raise NotImplementedError

    def decode(self, body: bytes, options: Options) -> Instances:
        """Read the body, which is within the limit in bytes and not compressed any more.

        Raises:
            ServiceError: it is not in the form, or not accepted by the schema.
        """
        raise NotImplementedError

    def wants_rows(self, instances: Instances, options: Options) -> bool:  # noqa: ARG002 - the native form looks
        """Whether the answer is rendered row by row instead of from arrays."""
        return False

    def render(self, instances: Instances, prediction: Prediction) -> bytes:
        """Return the body of a 200."""
        raise NotImplementedError

    def render_rows(
        self, instances: Instances, answers: Sequence[Answer], contributions: Contributions | None, options: Options
    ) -> bytes:
        """Return the body of a 200; called only where `wants_rows` is true."""
        raise NotImplementedError

    def refuse(self, error: BaseException, request_id: str, model_headers: Headers) -> Reply:
        """Word a refusal: the same status and codes in every form, see `service.errors.to_reply`."""
        raise NotImplementedError


def spell(error: ServiceError) -> str:
    """Return a refusal as one text, for forms that have no more than that; it begins with the kind of refusal."""
    found = "; ".join(f"{p.pointer or '/'} {p.code}: {p.message}" for p in error.problems)
    return f"{error.slug}: {error.detail}" + (f": {found}" if found else "")
