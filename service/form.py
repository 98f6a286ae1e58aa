"""How a protocol is spoken: a way in, a way out, and its form of a refusal, all around the one answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header, parse_options_header

from model.explain import Contributions
from model.predictor import Answer, Prediction
from service import encodings
from service.errors import NotAcceptable, UnsupportedMediaType
from service.instances import Instances, Options
from service.monitor import WAITED
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


def to_call(environ: Mapping[str, Any], body: bytes) -> Call:
    """Return a WSGI request (PEP 3333) whose body has been read as a call."""
    return Call(
        body,
        query=environ["QUERY_STRING"],
        content_type=environ.get("CONTENT_TYPE", ""),
        content_encoding=environ.get("HTTP_CONTENT_ENCODING", ""),
        accept=environ.get("HTTP_ACCEPT", ""),
        request_id=environ.get("HTTP_X_REQUEST_ID", ""),
        forwarded=environ.get("HTTP_X_FORWARDED_FOR", ""),
        peer=environ.get("REMOTE_ADDR", ""),
        traceparent=environ.get("HTTP_TRACEPARENT", ""),
        cloud_trace=environ.get("HTTP_X_CLOUD_TRACE_CONTEXT", ""),
        wait_seconds=environ.get(WAITED, 0.0),
    )


class Form:
    """Translates between one protocol and the answer; it judges nothing itself and predicts nothing.

    Attributes:
        protocol: label of metrics and logs, from a closed list.
        route: the path as the documents write it.
        content_type: of a 200.
        headers: further headers of a 200.
    """

    protocol: str
    route: str
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


# browsers' and clients' own are shorter by far
MOST_HEADER_CHARACTERS = 1000


def refuse_headers(call: Call, taken: Sequence[str], given: Sequence[str]) -> None:
    """Refuse a body of a kind that is not taken, or a caller who takes no kind that is given.

    Args:
        call: a content type may be absent.
        taken: content types in lower case; text is in UTF-8. The first is the one to name.
        given: what the answer may be.

    Raises:
        UnsupportedMediaType: it is not taken, or the coding is not.
        NotAcceptable: the caller does not accept any that is given.
    """
    for name, value in (("Accept", call.accept), ("Content-Type", call.content_type)):
        # reading 24 kB of alternatives takes 50 ms
        if len(value) > MOST_HEADER_CHARACTERS:
            error = NotAcceptable if name == "Accept" else UnsupportedMediaType
            raise error(detail=f"the header {name} is longer than {MOST_HEADER_CHARACTERS} characters")
    if call.content_encoding:
        encodings.coding(call.content_encoding)
    if call.content_type and call.content_type not in taken and not _is_one(call.content_type, taken):
        kind = "JSON" if taken[0] == "application/json" else taken[0]
        raise UnsupportedMediaType(detail=f"send {kind} with the header Content-Type: {taken[0]}")
    if call.accept not in ("", "*/*", given[0]):
        accepted = parse_accept_header(call.accept, MIMEAccept)
        if accepted.best_match(list(given)) is None:
            raise NotAcceptable(detail=f"the answer is {given[0]}; accept it")


def _is_one(content_type: str, taken: Sequence[str]) -> bool:
    """Whether a content type with parameters is one of those, in UTF-8."""
    kind, parameters = parse_options_header(content_type)
    return kind.lower() in taken and parameters.get("charset", "utf-8").lower() in ("utf-8", "utf8")
