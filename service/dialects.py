"""How each protocol words a refusal: the same kinds and codes in a form of its own, chosen by the path."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import orjson

from service.config import Settings
from service.errors import (
    MAX_REPLY_BYTES,
    BodyTooLarge,
    ImplausibleValue,
    InvalidInstance,
    ServiceError,
    TooManyInstances,
    internal_error,
    spell,
    to_reply,
)
from service.reply import JSON, Headers, Reply

Refuse = Callable[[BaseException, str, Headers], Reply]

# the protocols know no 422
INVALID = 400
# MLflow's names
INVALID_VALUE, BAD_REQUEST, INTERNAL_ERROR = "INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INTERNAL_ERROR"
BY_STATUS = {404: "ENDPOINT_NOT_FOUND", 429: "REQUEST_LIMIT_EXCEEDED", 503: "TEMPORARILY_UNAVAILABLE"}
MLFLOW_CODES = (INVALID_VALUE, BAD_REQUEST, INTERNAL_ERROR, *BY_STATUS.values())


class Dialect(NamedTuple):
    """A protocol as far as a path tells it.

    Attributes:
        protocol: label of metrics.
        refuse: exception, request id and the headers that name the model → the reply.
    """

    protocol: str
    refuse: Refuse


def _as_text(error: BaseException, request_id: str, model_headers: Headers) -> Reply:
    """Return `{"error": "text"}`, as the Open Inference Protocol and KServe have it."""
    refusal = error if isinstance(error, ServiceError) else internal_error()
    return _reply(refusal, {"error": _text(refusal)}, request_id, model_headers)


def _as_mlflow(error: BaseException, request_id: str, model_headers: Headers) -> Reply:
    """Return `{"error_code": …, "message": …}`, as MLflow's scoring server has it."""
    refusal = error if isinstance(error, ServiceError) else internal_error()
    return _reply(refusal, {"error_code": _mlflow_code(refusal), "message": _text(refusal)}, request_id, model_headers)


def _mlflow_code(refusal: ServiceError) -> str:
    """Return MLflow's name for a kind of refusal."""
    if isinstance(refusal, (InvalidInstance, ImplausibleValue, BodyTooLarge, TooManyInstances)):
        return INVALID_VALUE
    return BY_STATUS.get(refusal.status, BAD_REQUEST if refusal.status < 500 else INTERNAL_ERROR)


def _text(refusal: ServiceError) -> str:
    """Return a refusal as one text of a bounded length."""
    text = spell(refusal)
    if "reason" in refusal.extra:
        text += f" ({refusal.extra['reason']})"
    return text if len(text) <= MAX_REPLY_BYTES // 4 else text[: MAX_REPLY_BYTES // 4] + "…"


def _reply(refusal: ServiceError, body: dict[str, str], request_id: str, model_headers: Headers) -> Reply:
    """Return a JSON reply with the status of a refusal."""
    status = INVALID if isinstance(refusal, InvalidInstance) else refusal.status
    headers: Headers = (("Content-Type", JSON), ("X-Request-Id", request_id), *model_headers)
    return Reply(status, headers + refusal.headers, orjson.dumps(body))


NATIVE = Dialect("rookery", to_reply)
V2 = Dialect("v2", _as_text)
V1 = Dialect("v1", _as_text)
VERTEX = Dialect("vertex", _as_text)
MLFLOW = Dialect("mlflow", _as_mlflow)
SAGEMAKER = Dialect("sagemaker", _as_mlflow)

# paths of our own that a platform may name as its; they stay as they are
OWN = ("/predict", "/health/live", "/health/ready")


class Dialects:
    """Tells the protocol that is spoken on a path."""

    def __init__(self, settings: Settings) -> None:
        """Know the protocols that are on."""
        on = settings.protocols
        self._trees = tuple(d for name, d in (("v2", V2), ("v1", V1)) if name in on)
        self._exact: dict[str, Dialect] = {}
        hosted = MLFLOW if "mlflow" in on else SAGEMAKER if "sagemaker" in on else None
        if hosted is not None:
            self._exact |= {"/ping": hosted, "/invocations": hosted}
        if "mlflow" in on:
            self._exact["/health"] = MLFLOW
        if "sagemaker" in on:
            self._exact["/execution-parameters"] = SAGEMAKER
        if "vertex" in on:
            routes = (settings.vertex_health_route, settings.vertex_predict_route)
            self._exact |= {route: VERTEX for route in routes if route and route not in OWN}

    def of(self, path: str) -> Dialect:
        """Return the protocol of a path; ours where it belongs to none."""
        found = self._exact.get(path)
        if found is not None:
            return found
        for dialect in self._trees:
            if path == f"/{dialect.protocol}" or path.startswith(f"/{dialect.protocol}/"):
                return dialect
        return NATIVE
