"""The only implementation of a prediction over HTTP: decode → accept → predict → render → reply."""

from __future__ import annotations

import logging
import os
import random
import re
import time

import numpy as np

from model.explain import Contributions
from model.predictor import Answer, Prediction
from service import encodings, underway
from service.config import Settings
from service.dialects import Dialects
from service.errors import BodyTooLarge, NoModel, Problem, ServiceError
from service.form import Call, Form
from service.instances import Instances
from service.loader import NotReady, Ready, State
from service.monitor import Monitor, served
from service.native import Native
from service.rates import Rates, caller_of
from service.reply import Headers, Reply

log = logging.getLogger(__name__)

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
RETRY_SECONDS = "5"

# ids tell requests apart and guard nothing, so the fast generator will do; each process has a sequence of its own
_ids = random.Random()  # noqa: S311 - see above
os.register_at_fork(after_in_child=_ids.seed)


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
        self.native = Native(state, settings)
        self.dialects = Dialects(settings)
        self._rates = Rates(settings.rate_limit) if settings.rate_limit else None
        if isinstance(state, Ready):
            self.digest = state.digest
            self.headers = (("X-Model-Digest", state.digest),)
            if state.is_fallback:
                self.headers += (("X-Model-Fallback", state.origin),)
            self._predictor = state.predictor

    def answer(self, call: Call, form: Form | None = None) -> Reply:
        """Answer one call. Never raises: whatever happens becomes a reply.

        Args:
            call: what was sent.
            form: how it is to be read and answered; None for the native form.
        """
        form = form or self.native
        start = time.perf_counter()
        request_id = underway.begin(request_id_for(call.request_id))
        try:
            return self._predict(call, form, request_id, start)
        except ServiceError as error:
            return self._refuse(error, call, form, request_id, start)
        except Exception as error:  # the HTTP edge: the caller learns nothing but the request id
            log.exception("request.failed", extra={"request_id": request_id, "route": form.route})
            return self._refuse(error, call, form, request_id, start)
        finally:
            underway.end()

    def refuse(self, error: ServiceError, call: Call) -> Reply:
        """Word the refusal of a native call that is not read; it is not noted."""
        return self.native.refuse(error, request_id_for(call.request_id), self.headers)

    def _refuse(self, error: Exception, call: Call, form: Form, request_id: str, start: float) -> Reply:
        """Refuse a call, and note it."""
        self.monitor.note_refusal(
            error,
            request_id,
            route=form.route,
            protocol=form.protocol,
            began=start,
            wait=call.wait_seconds,
            traceparent=call.traceparent,
            cloud_trace=call.cloud_trace,
        )
        return form.refuse(error, request_id, self.headers)

    def require_model(self) -> Ready:
        """Return the loaded model, or refuse with the loader's reason.

        Raises:
            NoModel: there is none.
        """
        if isinstance(self.state, NotReady):
            raise no_model(self.state.code)
        return self.state

    def _predict(self, call: Call, form: Form, request_id: str, start: float) -> Reply:
        """Take the stairs, timing each."""
        if self._rates is not None:
            self._rates.refuse_excess(caller_of(call.forwarded, call.peer, self._settings.trusted_proxies))
        self.require_model()
        options = form.open(call)
        instances = form.decode(self._plain(call), options)
        decoded = time.perf_counter()
        answers: list[Answer] | Prediction
        if form.wants_rows(instances, options):
            answers = self._predictor.answers(instances.matrix)
            contributions = self._explain(instances, answers) if options.explain else None
            predicted = time.perf_counter()
            body = form.render_rows(instances, answers, contributions, options)
        else:
            answers = prediction = self._predictor.predict(instances.matrix)
            predicted = time.perf_counter()
            body = form.render(instances, prediction)
        end = time.perf_counter()
        decode, predict, render, total = decoded - start, predicted - decoded, end - predicted, end - start
        self.monitor.note(
            served(
                form.protocol, form.route, 200, "", request_id, start, call.wait_seconds,
                total, decode, predict, render, instances, answers, (), call.traceparent, call.cloud_trace,
            )
        )  # fmt: skip
        timing = (
            f"decode;dur={decode * 1e3:.3f}, predict;dur={predict * 1e3:.3f}, "
            f"render;dur={render * 1e3:.3f}, total;dur={total * 1e3:.3f}"
        )
        headers: Headers = (
            ("Content-Type", form.content_type),
            ("X-Request-Id", request_id),
            *self.headers,
            ("Server-Timing", timing),
            *form.headers,
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

    def _plain(self, call: Call) -> bytes:
        """Return the body, decompressed and within the limit in bytes."""
        limit_bytes = self._settings.max_body_bytes
        if len(call.body) > limit_bytes:
            raise body_too_large(limit_bytes)
        if call.content_encoding:
            return encodings.decoded(call.body, call.content_encoding, limit_bytes)
        return call.body


def no_model(code: str) -> NoModel:
    """Return the refusal of a service without a model, for a reason of the loader's."""
    return NoModel(
        [Problem("", "no_model", "no verified model is loaded")],
        detail="No verified model is loaded; the service keeps running and says why in `reason`.",
        headers=(("Retry-After", RETRY_SECONDS),),
        reason=code,
    )


def body_too_large(limit: int) -> BodyTooLarge:
    """Return the refusal of a body over the limit in bytes."""
    return BodyTooLarge([Problem("", "body_too_large", f"at most {limit} bytes are taken")])


def request_id_for(given: str) -> str:
    """Return the caller's request id if it is well-formed, else a new one."""
    return given if given and REQUEST_ID.fullmatch(given) else f"{_ids.getrandbits(128):032x}"
