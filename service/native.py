"""The service's own form of a prediction: `POST /predict`."""

from __future__ import annotations

from collections.abc import Sequence

from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header, parse_options_header

from model.explain import Contributions
from model.predictor import Answer, Prediction
from service import decode, encodings
from service.accept import Accept
from service.config import Settings
from service.decode import Limits
from service.errors import NotAcceptable, UnsupportedMediaType, to_reply
from service.form import Call, Form
from service.instances import DEFAULTS, Instances, Options, parse_options
from service.loader import Ready, State
from service.render import Renderer
from service.reply import JSON, Headers, Reply
from service.schemas import Judge


class Native(Form):
    """JSON in the shape of the HTTP contract; keeps nothing of a call, so one serves them all."""

    protocol, route = "rookery", "/predict"
    content_type = JSON

    def __init__(self, state: State, settings: Settings) -> None:
        """Derive everything from the manifest once; without a model it only refuses."""
        if isinstance(state, Ready):
            manifest = state.predictor.manifest
            self._limits = Limits.of(manifest.features, settings.max_instances)
            self._judge = Judge(state.predictor, settings.max_instances)
            self._accept = Accept(manifest, settings.max_instances) if settings.fast_path else None
            self._renderer = Renderer(manifest, state.digest, is_fallback=state.is_fallback)

    def open(self, call: Call) -> Options:
        """See `Form.open`."""
        refuse_headers(call)
        return parse_options(call.query) if call.query else DEFAULTS

    def decode(self, body: bytes, options: Options) -> Instances:
        """Accept an ordinary body fast; let the schema decide about any other."""
        decode.refuse_excess(body, self._limits)
        if self._accept is not None:
            instances = self._accept.accept(body)
            if instances is not None:
                return instances
        return self._judge.judge(decode.strict(body), options)

    def wants_rows(self, instances: Instances, options: Options) -> bool:
        """See `Form.wants_rows`."""
        return not self._renderer.is_plain_batch(instances, options)

    def render(self, instances: Instances, prediction: Prediction) -> bytes:  # noqa: ARG002 - see Form.render
        """See `Form.render`."""
        return self._renderer.render_batch(prediction)

    def render_rows(
        self, instances: Instances, answers: Sequence[Answer], contributions: Contributions | None, options: Options
    ) -> bytes:
        """See `Form.render_rows`."""
        return self._renderer.render(instances, answers, contributions, options.explain)

    def refuse(self, error: BaseException, request_id: str, model_headers: Headers) -> Reply:
        """Return a problem document."""
        return to_reply(error, request_id, model_headers)


def refuse_headers(call: Call) -> None:
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
