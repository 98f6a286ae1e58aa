"""KServe's first protocol and Vertex AI's, which are the same: `instances` in, `predictions` out."""

from __future__ import annotations

from model.predictor import Prediction
from service import decode
from service.decode import json_type
from service.dialects import V1, Dialect
from service.errors import InvalidInstance, Problem, pointer
from service.form import Call, Form, refuse_headers
from service.instances import DEFAULTS, Instances, Options
from service.protocols.intake import Intake
from service.reply import JSON, Headers, Reply

# beside the instances; what they would ask for is not offered, and they change no answer
IGNORED = ("parameters", "signature_name")


class Predict(Form):
    """`POST /v1/models/{model}:predict` or Vertex AI's route; keeps nothing of a call."""

    content_type = JSON

    def __init__(self, intake: Intake, dialect: Dialect = V1, route: str = "/v1/models/{model}:predict") -> None:
        """Answer on a route.

        Args:
            intake: judges the rows.
            dialect: V1 or VERTEX.
            route: as the documents write it.
        """
        self._intake, self._dialect = intake, dialect
        self.protocol, self.route = dialect.protocol, route

    def open(self, call: Call) -> Options:
        """See `Form.open`."""
        refuse_headers(call, (JSON,), (JSON,))
        return DEFAULTS

    def decode(self, body: bytes, options: Options) -> Instances:  # noqa: ARG002 - there are none
        """See `Form.decode`."""
        decode.refuse_excess(body, self._intake.limits)
        request = decode.read(body)
        if not isinstance(request, dict):
            raise InvalidInstance([Problem("", "type", f"must be an object, not {json_type(request)}")])
        if "instances" not in request:
            raise InvalidInstance([Problem("/instances", "missing", "required: the instances, in an array")])
        unknown = [name for name in request if name != "instances" and name not in IGNORED]
        if unknown:
            known = ", ".join(("instances", *IGNORED))
            message = f"is not part of a request; known: {known}"
            raise InvalidInstance([Problem(pointer(name), "unknown", message) for name in unknown])
        return self._intake.objects_or_arrays(request["instances"])

    def render(self, instances: Instances, prediction: Prediction) -> bytes:  # noqa: ARG002 - see Form.render
        """See `Form.render`."""
        return b'{"predictions":[%b]}' % self._intake.renderer.rows(prediction)

    def refuse(self, error: BaseException, request_id: str, model_headers: Headers) -> Reply:
        """See `Form.refuse`."""
        return self._dialect.refuse(error, request_id, model_headers)
