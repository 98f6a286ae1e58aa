"""OpenTelemetry's spans of a finished call, from the times that were taken anyway.

Imported where spans are sent at all, and not before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from model.predictor import Prediction
from service.config import Settings
from service.loader import NotReady, State
from service.monitor import Served
from service.tracing import Trace, span_id_of

# rows of a batch whose classes a span names
MOST_NAMED = 16
SAMPLED = api.TraceFlags(api.TraceFlags.SAMPLED)


class Ids(IdGenerator):
    """Gives the first span the ids that the log has, and its stages new ones."""

    def __init__(self) -> None:
        """Begin without a call."""
        self._trace_id = self._span_id = self._number = 0

    def begin(self, trace_id: str, span_id: str) -> None:
        """Take the ids of a call."""
        self._trace_id, self._span_id, self._number = int(trace_id, 16), int(span_id, 16), 0

    def generate_trace_id(self) -> int:
        """See `opentelemetry.sdk.trace.id_generator.IdGenerator`."""
        return self._trace_id

    def generate_span_id(self) -> int:
        """See `opentelemetry.sdk.trace.id_generator.IdGenerator`."""
        number, self._number = self._number, self._number + 1
        # those of the stages follow that of the call
        return (self._span_id + number) % (1 << 64) or 1


class Collector(SpanProcessor):
    """Keeps the spans that ended."""

    def __init__(self) -> None:
        """Begin with none."""
        self._ended: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        """See `opentelemetry.sdk.trace.SpanProcessor`."""
        self._ended.append(span)

    def take(self) -> list[ReadableSpan]:
        """Return them, and forget them."""
        ended, self._ended = self._ended, []
        return ended


class Stage(NamedTuple):
    """One stage of a call."""

    name: str
    seconds: float
    attributes: dict[str, Any]


class Maker:
    """Makes the spans of calls; one thread uses it."""

    def __init__(self, state: State, settings: Settings) -> None:
        """Describe this service."""
        resource = {"service.name": "rookery", "service.version": settings.commit}
        if settings.project:
            resource["gcp.project_id"] = settings.project
        self._state, self._ids, self._collector = state, Ids(), Collector()
        provider = TracerProvider(ALWAYS_ON, Resource(resource), shutdown_on_exit=False, id_generator=self._ids)
        provider.add_span_processor(self._collector)
        self._tracer = provider.get_tracer("rookery")

    def make(self, call: Served, trace: Trace, began_ns: int) -> Sequence[ReadableSpan]:
        """Return a call's own span and those of its stages.

        Args:
            call: that was sampled.
            trace: where it stands.
            began_ns: when it was begun to be answered, nanoseconds since the epoch.
        """
        self._ids.begin(trace.trace_id, span_id_of(call.request_id, call.began))
        at_ns, end_ns = began_ns - _ns(call.wait), began_ns + _ns(call.total)
        name, kind = f"POST {call.route}", api.SpanKind.SERVER
        server = self._tracer.start_span(name, _caller(trace), kind, _of_call(call), start_time=at_ns)
        if call.reason == "internal":
            server.set_status(api.StatusCode.ERROR)
        inside = api.set_span_in_context(server, Context())
        for stage in self._stages(call):
            span = self._tracer.start_span(stage.name, inside, attributes=stage.attributes, start_time=at_ns)
            at_ns = min(at_ns + _ns(stage.seconds), end_ns)
            span.end(at_ns)
        server.end(end_ns)
        return self._collector.take()

    def _stages(self, call: Served) -> list[Stage]:
        """Return the stages that a call went through."""
        stages = [Stage("wait", call.wait, {})] if call.wait else []
        if call.instances is not None:
            model = Stage("model_prediction_span", call.predict, self._of_model(call))
            stages += [Stage("decode", call.decode, {}), model, Stage("render", call.render, {})]
        return stages

    def _of_model(self, call: Served) -> dict[str, Any]:
        """Return the attributes of the computation."""
        if isinstance(self._state, NotReady) or call.answers is None or call.instances is None:
            return {}
        manifest, answers = self._state.predictor.manifest, call.answers
        if isinstance(answers, Prediction):
            found = answers.classes[:MOST_NAMED].tolist()
        else:
            found = [answer.prediction for answer in answers[:MOST_NAMED]]
        return {
            "prediction.class": ",".join(manifest.classes[each] for each in found),
            "model.name": manifest.name,
            "model.digest": self._state.digest,
            "rows": len(call.instances),
        }


def _of_call(call: Served) -> dict[str, Any]:
    """Return the attributes of a call."""
    attributes: dict[str, Any] = {
        "http.request.method": "POST",
        "http.route": call.route,
        "http.response.status_code": call.status,
        "rookery.request_id": call.request_id,
        "rookery.protocol": call.protocol,
    }
    return {**attributes, "error.type": call.reason} if call.reason else attributes


def _caller(trace: Trace) -> Context:
    """Return the context that a call's span is made in: inside the caller's, if it named one."""
    if not trace.parent_id:
        return Context()
    caller = api.SpanContext(int(trace.trace_id, 16), int(trace.parent_id, 16), is_remote=True, trace_flags=SAMPLED)
    return api.set_span_in_context(api.NonRecordingSpan(caller), Context())


def _ns(seconds: float) -> int:
    """Return nanoseconds."""
    return int(seconds * 1e9)
