"""The service's own form of a prediction: `POST /predict`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from model.explain import Contributions
from model.predictor import Answer, Prediction
from service import decode
from service.accept import Accept
from service.config import Settings
from service.decode import Limits
from service.errors import to_reply
from service.form import Call, Form, refuse_headers
from service.instances import DEFAULTS, Instances, Options, parse_options
from service.loader import Ready, State
from service.render import Renderer
from service.reply import JSON, Headers, Reply

if TYPE_CHECKING:
    from service.schemas import Judge

# a batch that spells its key with escapes is read slowly, and alike
BATCH = b'"instances"'
# so short a body is soon answered: twenty rows of which every value is in another unit, or a few hundred that are wrong
QUICK_BYTES = 8 << 10
# a value by name with its marks, and one as raw bytes
VALUE_BYTES, RAW_VALUE_BYTES = 24, 4


class Native(Form):
    """JSON in the shape of the HTTP contract; keeps nothing of a call, so one serves them all.

    Attributes:
        quick_bytes: a body so short is soon answered, whatever it holds; without a model any is.
    """

    protocol, route = "rookery", "/predict"
    content_type = JSON

    def __init__(self, state: State, settings: Settings) -> None:
        """Derive everything from the manifest once; without a model it only refuses."""
        self._state, self._max_instances = state, settings.max_instances
        self.quick_bytes: float = math.inf
        if isinstance(state, Ready):
            manifest = state.predictor.manifest
            self._limits = Limits.of(manifest.features, settings.max_instances)
            # of a model with many features one row is long
            row_bytes = sum(len(feature.name) + VALUE_BYTES for feature in manifest.features)
            self.quick_bytes = max(QUICK_BYTES, 2 * row_bytes)
            self.accept = Accept(manifest, settings.max_instances) if settings.fast_path else None
            self.renderer = Renderer(manifest, state.digest, is_fallback=state.is_fallback)

    @cached_property
    def judge(self) -> Judge:
        """The schema, which words refusals; marshmallow is imported with it, after the first answers."""
        from service.schemas import Judge

        if not isinstance(self._state, Ready):
            raise TypeError("there is no model to judge instances for")
        lay_out = None if self.accept is None else self.accept.lay_out
        return Judge(self._state.predictor, self._max_instances, lay_out)

    def prepare(self) -> None:
        """Make what the first answers do without: called in a thread of its own once the service listens."""
        if isinstance(self._state, Ready):
            _ = self.judge

    def rows(self, body: bytes, *, is_raw: bool) -> int:
        """Return about how many rows a body may hold, by counting what separates them and their values.

        Args:
            body: of any protocol: JSON, CSV, or tensors.
            is_raw: whether most of it are the raw bytes of tensors.

        Returns:
            0 without a model, as nothing is read then.
        """
        if not isinstance(self._state, Ready):
            return 0
        values = self._limits.row_commas
        if is_raw:
            return len(body) // (RAW_VALUE_BYTES * values)
        brackets = body.count(b"{") + body.count(b"[")
        return max(brackets, body.count(b",") // values, body.count(b"\n"), body.count(b"\r"))

    def open(self, call: Call) -> Options:
        """See `Form.open`."""
        refuse_headers(call, (JSON,), (JSON,))
        return parse_options(call.query) if call.query else DEFAULTS

    def decode(self, body: bytes, options: Options) -> Instances:
        """Accept an ordinary body fast; let the schema decide about any other, and in a batch about unusual rows."""
        decode.refuse_excess(body, self._limits)
        if self.accept is None:
            return self.judge.judge(decode.strict(body), options)
        instances = self.accept.accept(body)
        if instances is not None:
            return instances
        # only of a batch the schema leaves rows out, so only there it pays to try twice to read fast
        read = decode.read if BATCH in body else decode.strict
        return self.judge.judge(read(body), options)

    def wants_rows(self, instances: Instances, options: Options) -> bool:
        """See `Form.wants_rows`."""
        return not self.renderer.is_plain_batch(instances, options)

    def render(self, instances: Instances, prediction: Prediction) -> bytes:  # noqa: ARG002 - see Form.render
        """See `Form.render`."""
        return self.renderer.render_batch(prediction)

    def render_rows(
        self, instances: Instances, answers: Sequence[Answer], contributions: Contributions | None, options: Options
    ) -> bytes:
        """See `Form.render_rows`."""
        return self.renderer.render(instances, answers, contributions, options.explain)

    def refuse(self, error: BaseException, request_id: str, model_headers: Headers) -> Reply:
        """Return a problem document."""
        return to_reply(error, request_id, model_headers)
