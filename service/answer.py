"""The only implementation of a prediction over HTTP: decode → accept → predict → render → reply."""

from __future__ import annotations

import logging
import os
import random
import re
import time
from typing import NamedTuple

import numpy as np
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header, parse_options_header

from model.explain import Contributions
from model.predictor import Answer, Prediction
from service import decode, encodings, underway
from service.accept import Accept
from service.config import Settings
from service.decode import Limits
from service.errors import (
    BodyTooLarge,
    NoModel,
    NotAcceptable,
    Problem,
    ServiceError,
    UnsupportedMediaType,
    to_reply,
)
from service.instances import DEFAULTS, Instances, Options, parse_options
from service.loader import NotReady, Ready, State
from service.monitor import PREDICT, ROOKERY, Monitor, Served
from service.rates import Rates, caller_of
from service.render import Renderer
from service.reply import JSON, Headers, Reply
from service.schemas import Judge

log = logging.getLogger(__name__)

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
RETRY_SECONDS = "5"

# ids tell requests apart and guard nothing, so the fast generator will do; each process has a sequence of its own
_ids = random.Random()  # noqa: S311 - see above
os.register_at_fork(after_in_child=_ids.seed)


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
    route: str = PREDICT
    protocol: str = ROOKERY


class Answerer:
    """Answers calls from one loaded model, or says why it cannot."""

    def __init__(self, state: State, settings: Settings, monitor: Monitor | None = None) -> None:
        """Derive everything from the manifest once.

        Args:
            state: the model, or why there is none.
            settings: limits and switches.
            monitor: is told about every finished call; None for one that nobody reads.
        """
        self.state = state
        self.monitor = monitor or Monitor()
        self._settings = settings
        self.digest: str | None = None
        self.headers: Headers = ()
        self._rates = Rates(settings.rate_limit) if settings.rate_limit else None
        if isinstance(state, Ready):
            manifest = state.predictor.manifest
            self.digest = state.digest
            self.headers = (("X-Model-Digest", state.digest),)
            if state.is_fallback:
                self.headers += (("X-Model-Fallback", state.origin),)
            self._predictor = state.predictor
            self._limits = Limits.of(manifest.features, settings.max_instances)
            self._judge = Judge(state.predictor, settings.max_instances)
            self._accept = Accept(manifest, settings.max_instances) if settings.fast_path else None
            self._renderer = Renderer(manifest, state.digest, is_fallback=state.is_fallback)

    def answer(self, call: Call) -> Reply:
        """Answer one call. Never raises: whatever happens becomes a reply."""
        start = time.perf_counter()
        request_id = underway.begin(request_id_for(call.request_id))
        try:
            return self._predict(call, request_id, start)
        except ServiceError as error:
            return self._refuse(error, call, request_id, start)
        except Exception as error:  # the HTTP edge: the caller learns nothing but the request id
            log.exception("request.failed", extra={"request_id": request_id, "route": call.route})
            return self._refuse(error, call, request_id, start)
        finally:
            underway.end()

    def refuse(self, error: ServiceError, call: Call) -> Reply:
        """Word the refusal of a call that is not read; it is not noted."""
        return to_reply(error, request_id_for(call.request_id), self.headers)

    def _refuse(self, error: Exception, call: Call, request_id: str, start: float) -> Reply:
        """Refuse a call, and note it."""
        self.monitor.note_refusal(
            error,
            request_id,
            route=call.route,
            protocol=call.protocol,
            began=start,
            wait=call.wait_seconds,
            traceparent=call.traceparent,
            cloud_trace=call.cloud_trace,
        )
        return to_reply(error, request_id, self.headers)

    def require_model(self) -> Ready:
        """Return the loaded model, or refuse with the loader's reason.

        Raises:
            NoModel: there is none.
        """
        if isinstance(self.state, NotReady):
            raise no_model(self.state)
        return self.state

    def _predict(self, call: Call, request_id: str, start: float) -> Reply:
        """Take the stairs, timing each."""
        if self._rates is not None:
            self._rates.refuse_excess(caller_of(call.forwarded, call.peer))
        self.require_model()
        _refuse_headers(call)
        options = parse_options(call.query) if call.query else DEFAULTS
        instances = self._decode(call, options)
        decoded = time.perf_counter()
        if self._renderer.is_plain_batch(instances, options):
            prediction = self._predictor.predict(instances.matrix)
            predicted = time.perf_counter()
            body = self._renderer.render_batch(prediction)
            answers: Prediction | list[Answer] = prediction
        else:
            answers = self._predictor.answers(instances.matrix)
            contributions = self._explain(instances, answers) if options.explain else None
            predicted = time.perf_counter()
            body = self._renderer.render(instances, answers, contributions, options.explain)
        end = time.perf_counter()
        decode, predict, render, total = decoded - start, predicted - decoded, end - predicted, end - start
        self.monitor.note(
            Served(
                call.protocol, call.route, 200, "", request_id, start, call.wait_seconds,
                total, decode, predict, render, instances, answers, (), call.traceparent, call.cloud_trace,
            )
        )  # fmt: skip
        timing = (
            f"decode;dur={decode * 1e3:.3f}, predict;dur={predict * 1e3:.3f}, "
            f"render;dur={render * 1e3:.3f}, total;dur={total * 1e3:.3f}"
        )
        headers: Headers = (
            ("Content-Type", JSON),
            ("X-Request-Id", request_id),
            *self.headers,
            ("Server-Timing", timing),
        )
        return Reply(200, headers, body)

    def _explain(self, instances: Instances, answers: list[Answer]) -> Contributions | None:
        """Return what each feature adds to the predicted class of each row."""
        if not answers:
            return None
        try:
            return self._predictor.explain(instances.matrix, np.array([answer.prediction for answer in answers]))
        except Exception:  # the prediction is worth more than its explanation, whatever failed
            log.exception("explanation.failed")
            return None

    def _decode(self, call: Call, options: Options) -> Instances:
        """Accept an ordinary body fast; let the schema decide about any other."""
        body, limit_bytes = call.body, self._settings.max_body_bytes
        if len(body) > limit_bytes:
            raise body_too_large(limit_bytes)
        if call.content_encoding:
            body = encodings.decoded(body, call.content_encoding, limit_bytes)
        decode.refuse_excess(body, self._limits)
        if self._accept is not None:
            instances = self._accept.accept(body)
            if instances is not None:
                return instances
        return self._judge.judge(decode.strict(body), options)


def no_model(state: NotReady) -> NoModel:
    """Return the refusal of a service without a model."""
    return NoModel(
        [Problem("", "no_model", "no verified model is loaded")],
        detail="No verified model is loaded; the service keeps running and says why in `reason`.",
        headers=(("Retry-After", RETRY_SECONDS),),
        reason=state.code,
    )


def body_too_large(limit: int) -> BodyTooLarge:
    """Return the refusal of a body over the limit in bytes."""
    return BodyTooLarge([Problem("", "body_too_large", f"at most {limit} bytes are taken")])


def request_id_for(given: str) -> str:
    """Return the caller's request id if it is well-formed, else a new one."""
    return given if given and REQUEST_ID.fullmatch(given) else f"{_ids.getrandbits(128):032x}"


def _refuse_headers(call: Call) -> None:
    """Refuse what is not JSON, or a caller who does not take JSON."""
    if call.content_encoding:
        encodings.coding(call.content_encoding)
    if call.content_type not in ("", JSON) and not _is_json(call.content_type):
        raise UnsupportedMediaType(detail="send JSON with the header Content-Type: application/json")
    if call.accept not in ("", "*/*", JSON):
        accepted = parse_accept_header(call.accept, MIMEAccept)
        if accepted.best_match([JSON]) is None:
            raise NotAcceptable(detail="the answer is application/json; accept it")


def _is_json(content_type: str) -> bool:
    """Whether a content type is JSON in UTF-8."""
    kind, parameters = parse_options_header(content_type)
    return kind.lower() == JSON and parameters.get("charset", "utf-8").lower() in ("utf-8", "utf8")
