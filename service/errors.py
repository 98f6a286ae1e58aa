"""Every refusal, and the one place that turns an exception into a reply (RFC 9457)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import orjson

from service.reply import PROBLEM, Headers, Reply

MAX_PROBLEMS = 20
MAX_ECHO = 64
MAX_REPLY_BYTES = 16 << 10


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and where.

    Attributes:
        pointer: JSON pointer (RFC 6901) into the body; empty for the whole of it.
        code: from the closed list of the HTTP contract.
        message: for people; repeats at most 64 characters of the input.
        suggestion: for `unit`, the unit probably meant and the value in the feature's own unit.
        feature: for `unit`, the feature; the caller reads it in the pointer.
    """

    pointer: str
    code: str
    message: str
    suggestion: tuple[str, float] | None = None
    feature: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the member of `errors`."""
        found: dict[str, Any] = {"pointer": self.pointer, "code": self.code, "message": self.message}
        if self.suggestion is not None:
            found["suggestion"] = {"unit": self.suggestion[0], "value": self.suggestion[1]}
        return found


class ServiceError(Exception):
    """The root of every refusal; subclasses say the status and the type, instances say what is wrong.

    Attributes:
        problems: what is wrong, at most 20; may be empty.
        headers: extra headers of the reply.
        extra: further members of the problem document.
    """

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"

    def __init__(
        self, problems: Sequence[Problem] = (), detail: str | None = None, headers: Headers = (), **extra: str
    ) -> None:
        """Keep the first 20 problems; without a detail, their number is the detail."""
        super().__init__(detail or self.title)
        self.problems = tuple(problems[:MAX_PROBLEMS])
        count = len(problems)
        self.detail = detail or (f"{count} problem{'s' if count != 1 else ''}" if count else self.title)
        self.headers = headers
        self.extra = extra


class MalformedBody(ServiceError):
    """The body is not JSON."""

    status, slug, title = 400, "malformed-body", "The body is not JSON"


class AmbiguousBody(ServiceError):
    """The body could be read in more than one way, so it is read in none."""

    status, slug, title = 400, "ambiguous-body", "The body is ambiguous"


class ImplausibleValue(ServiceError):
    """Well-formed and well-typed, but outside the domain."""

    status, slug, title = 400, "implausible-value", "A value is outside the domain of the model"


class InvalidParameter(ServiceError):
    """A query parameter is unknown or has an unknown value."""

    status, slug, title = 400, "invalid-parameter", "A query parameter is not understood"


class InvalidInstance(ServiceError):
    """A feature is missing, unknown, null, or of the wrong type."""

    status, slug, title = 422, "invalid-instance", "The instance does not fit the model"


class InvalidFeedback(ServiceError):
    """What should say what turned out to be true does not."""

    status, slug, title = 422, "invalid-feedback", "The feedback is not understood"


class RouteNotFound(ServiceError):
    """There is no such route."""

    status, slug, title = 404, "not-found", "There is no such route"


class MethodNotAllowed(ServiceError):
    """The route exists, the method does not."""

    status, slug, title = 405, "method-not-allowed", "The route does not take this method"


class NotAcceptable(ServiceError):
    """The caller accepts nothing this route can answer."""

    status, slug, title = 406, "not-acceptable", "The answer is JSON, which is not accepted"


class BodyTooLarge(ServiceError):
    """The body is over the limit in bytes or in marks; said without decoding it."""

    status, slug, title = 413, "body-too-large", "The body is too large"


class TooManyInstances(ServiceError):
    """The batch is over the limit."""

    status, slug, title = 413, "too-many-instances", "The batch is too large"


class UnsupportedMediaType(ServiceError):
    """The content type, its charset or the content encoding is not understood."""

    status, slug, title = 415, "unsupported-media-type", "The content type is not understood"


class NoModel(ServiceError):
    """There is no verified model to answer from."""

    status, slug, title = 503, "no-model", "No verified model is loaded"


class Overloaded(ServiceError):
    """More requests wait than can be answered in time."""

    status, slug, title = 503, "overloaded", "The service has more to do than it can do in time"


class RateLimited(ServiceError):
    """This caller sends more requests than one caller may."""

    status, slug, title = 429, "rate-limited", "This caller sends too many requests"


class OtherHttpError(ServiceError):
    """A refusal by the web framework that has no class of its own."""

    slug = "http"

    def __init__(self, status: int, title: str) -> None:
        """Take the status and the standard phrase."""
        super().__init__(detail=title)
        self.status = status  # type: ignore[misc]
        self.title = title  # type: ignore[misc]


def to_reply(error: BaseException, request_id: str, model_headers: Headers) -> Reply:
    """Turn an exception into a problem document.

    Args:
        error: a ServiceError says what to tell the caller; anything else is our fault and tells nothing.
        request_id: goes into the body and the header.
        model_headers: that name the model in use, empty if there is none.
    """
    refusal = error if isinstance(error, ServiceError) else internal_error()
    body = {**document(refusal), "request_id": request_id}
    payload = orjson.dumps(body)
    while len(payload) > MAX_REPLY_BYTES and body.get("errors"):
        # long texts of the manifest: fewer problems are named, `detail` still says how many there are
        del body["errors"][-1]
        payload = orjson.dumps(body)
    headers: Headers = (("Content-Type", PROBLEM), ("X-Request-Id", request_id), *model_headers)
    return Reply(refusal.status, headers + refusal.headers, payload)


def document(refusal: ServiceError) -> dict[str, Any]:
    """Return the problem document of a refusal, without a request id."""
    body: dict[str, Any] = {
        "type": f"urn:rookery:problem:{refusal.slug}",
        "title": refusal.title,
        "status": refusal.status,
        "detail": refusal.detail,
        **refusal.extra,
    }
    if refusal.problems:
        body["errors"] = [problem.as_json() for problem in refusal.problems]
    return body


def row_document(refusal: ServiceError) -> dict[str, Any]:
    """Return what a batch answers in the place of a bad row; where nothing is named, type and status alone."""
    found = document(refusal)
    return found if refusal.problems else {"type": found["type"], "status": found["status"]}


def internal_error() -> ServiceError:
    """Return the opaque refusal for what is our fault."""
    return ServiceError(
        [Problem("", "internal", "the service failed; report the request id")],
        detail="The service failed. Its operators find the cause under the request id.",
    )


def moved(error: ServiceError, place: Callable[[str], str]) -> ServiceError:
    """Return a refusal whose pointers are those of another body.

    Args:
        error: is changed.
        place: pointer → the pointer to the same value as the caller has it.
    """
    error.problems = tuple(replace(problem, pointer=place(problem.pointer)) for problem in error.problems)
    return error


def spell(error: ServiceError) -> str:
    """Return a refusal as one text, for forms that have no more than that; it begins with the kind of refusal."""
    found = "; ".join(f"{p.pointer or '/'} {p.code}: {p.message}" for p in error.problems)
    return f"{error.slug}: {error.detail}" + (f": {found}" if found else "")


def echo(text: str) -> str:
    """Return at most 64 characters of the input, for a message."""
    return text if len(text) <= MAX_ECHO else text[: MAX_ECHO - 1] + "…"


def pointer(*steps: str | int) -> str:
    """Return a JSON pointer; a step that came from the input is cut to 64 characters."""
    return "".join("/" + echo(str(step)).replace("~", "~0").replace("/", "~1") for step in steps)
