"""The Open Inference Protocol, version 2: tensors in JSON or raw bytes, as KServe, Triton and MLServer speak it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import orjson
from numpy.typing import NDArray

from model.domain import Feature
from model.manifest import Manifest
from model.predictor import Prediction
from service import decode, dialects
from service.decode import json_type
from service.errors import InvalidInstance, MalformedBody, Problem, RouteNotFound, ServiceError, echo, moved
from service.form import Call, Form, refuse_headers
from service.instances import DEFAULTS, Instances, Options
from service.protocols.intake import Intake
from service.protocols.tensors import NUMERIC, Reader, Tensor, to_raw_texts
from service.reply import JSON, Headers, Reply

RAW = "application/octet-stream"
HEADER_LENGTH = "Inference-Header-Content-Length"
# without leading zeros, which not everybody reads alike
LENGTH = re.compile(r"0|[1-9][0-9]{0,17}")
# all rows in one tensor, in the order of the manifest
INSTANCES = "instances"
OUTPUTS = {"label": "BYTES", "prediction": "INT64", "probabilities": "FP64", "novelty": "FP64"}
PLACE = re.compile(r"/instances(?:/(\d+)(?:/(\d+))?)?")


class Infer(Form):
    """One `POST /v2/models/{model}/infer`."""

    protocol, route = "v2", "/v2/models/{model}/infer"
    content_type = JSON

    def __init__(self, intake: Intake, request_id: str, header_length: str | None) -> None:
        """Begin with what the headers tell.

        Args:
            intake: judges the rows.
            request_id: the id of an answer to a call that has none.
            header_length: the header that tells where the JSON part ends, None if absent.
        """
        self._intake, self._header_length, self._id = intake, header_length, request_id
        self._wanted: dict[str, bool] = {}

    def open(self, call: Call) -> Options:
        """See `Form.open`."""
        refuse_headers(call, (JSON, RAW), (JSON, RAW))
        return DEFAULTS

    def decode(self, body: bytes, options: Options) -> Instances:  # noqa: ARG002 - there are none
        """See `Form.decode`."""
        intake = self._intake
        text, raw = self._split(body)
        decode.refuse_excess(text, intake.limits)
        request = decode.read(text)
        if not isinstance(request, dict):
            raise InvalidInstance([Problem("", "type", f"must be an object, not {json_type(request)}")])
        if request.get("id") is not None:
            self._id = _text(request["id"], "/id")
        self._wanted = _wanted(request)
        inputs = request.get("inputs")
        if not isinstance(inputs, list) or not inputs:
            code = "missing" if inputs is None or inputs == [] else "type"
            raise InvalidInstance([Problem("/inputs", code, "must be an array of tensors")])
        # more than all features are too many however they are named
        reader = Reader(raw, intake.max_instances)
        known = len(intake.names) + 1
        tensors = [reader.read(value, f"/inputs/{index}") for index, value in enumerate(inputs[:known])]
        if len(inputs) <= known:
            reader.finish()
        if len(tensors) == 1 and tensors[0].name == INSTANCES and INSTANCES not in intake.names:
            return _together(tensors[0], intake)
        return _by_name(tensors, intake)

    def render(self, instances: Instances, prediction: Prediction) -> bytes:  # noqa: ARG002 - see Form.render
        """See `Form.render`."""
        intake = self._intake
        manifest = intake.manifest
        outputs: list[dict[str, Any]] = []
        raws: list[bytes] = []
        for name, is_raw in self._wanted.items():
            values = _values(name, prediction)
            output: dict[str, Any] = {"name": name, "shape": list(values.shape), "datatype": OUTPUTS[name]}
            if is_raw:
                raws.append(_to_raw(name, values, manifest.classes))
                output["parameters"] = {"binary_data_size": len(raws[-1])}
            elif name == "label":
                output["data"] = [manifest.classes[index] for index in values.tolist()]
            else:
                output["data"] = values.ravel().tolist()
            outputs.append(output)
        head = orjson.dumps(
            {"model_name": manifest.name, "model_version": manifest.version, "id": self._id, "outputs": outputs}
        )
        if not raws:
            return head
        self.content_type, self.headers = RAW, ((HEADER_LENGTH, str(len(head))),)
        return head + b"".join(raws)

    def refuse(self, error: BaseException, request_id: str, model_headers: Headers) -> Reply:
        """See `Form.refuse`."""
        return dialects.V2.refuse(error, request_id, model_headers)

    def _split(self, body: bytes) -> tuple[bytes, bytes]:
        """Part a body into JSON and raw bytes; the header is the caller's word."""
        given = self._header_length
        if given is None:
            return body, b""
        if not LENGTH.fullmatch(given) or int(given) > len(body):
            message = f"must be a whole number, at most the {len(body)} bytes of the body"
            raise MalformedBody(
                [Problem("", "malformed", message)], detail=f"The header {HEADER_LENGTH} does not fit the body"
            )
        return body[: int(given)], body[int(given) :]


def _wanted(request: dict[str, Any]) -> dict[str, bool]:
    """Return the outputs that are asked for, and whether each as raw bytes."""
    parameters = request.get("parameters")
    is_raw = isinstance(parameters, dict) and parameters.get("binary_data_output") is True
    outputs = request.get("outputs")
    if outputs is None or outputs == []:
        return dict.fromkeys(OUTPUTS, is_raw)
    if not isinstance(outputs, list):
        raise InvalidInstance([Problem("/outputs", "type", f"must be an array, not {json_type(outputs)}")])
    wanted: dict[str, bool] = {}
    for index, output in enumerate(outputs):
        place = f"/outputs/{index}"
        name = _text(output.get("name") if isinstance(output, dict) else None, f"{place}/name")
        if name not in OUTPUTS:
            known = ", ".join(OUTPUTS)
            raise InvalidInstance([Problem(f"{place}/name", "unknown", f"is not an output; known: {known}")])
        if name in wanted:
            raise InvalidInstance([Problem(f"{place}/name", "ambiguous", "stands twice")])
        own = output.get("parameters")
        wanted[name] = own.get("binary_data", is_raw) is True if isinstance(own, dict) else is_raw
    return wanted


def _text(value: object, place: str) -> str:
    """Return a text, or refuse what is none."""
    if not isinstance(value, str):
        raise InvalidInstance([Problem(place, "type", f"must be a string, not {json_type(value)}")])
    return value


def _together(tensor: Tensor, intake: Intake) -> Instances:
    """Read all rows from one tensor."""
    intake.refuse_positional("/inputs/0")
    width = len(intake.names)
    if len(tensor.shape) != 2 or tensor.shape[1] != width:
        message = f"must be [n, {width}]: {', '.join(intake.names)}"
        raise InvalidInstance([Problem("/inputs/0/shape", "type", message)])
    if isinstance(tensor.column, list) or intake.has_texts:
        message = "all rows in one tensor must be numbers; give text features in tensors of their own"
        raise InvalidInstance([Problem("/inputs/0/datatype", "type", message)])
    try:
        return intake.matrix(tensor.column.reshape(tensor.shape))
    except ServiceError as error:
        raise _moved(error, lambda row, column: f"/inputs/0/data/{row}" + (f"/{column}" if column else "")) from error


def _by_name(tensors: list[Tensor], intake: Intake) -> Instances:
    """Read each feature from the tensor with its name."""
    places: dict[str, int] = {}
    problems = []
    for index, tensor in enumerate(tensors):
        place = f"/inputs/{index}"
        if tensor.name not in intake.names:
            problems.append(
                Problem(f"{place}/name", "unknown", f"{echo(tensor.name)!r} is not a feature of this model")
            )
        elif tensor.name in places:
            problems.append(Problem(f"{place}/name", "ambiguous", "stands twice"))
        elif len(tensor.shape) == 2 and tensor.shape[1] != 1:
            problems.append(Problem(f"{place}/shape", "type", "must be [n] or [n, 1]"))
        else:
            places[tensor.name] = index
            fault = _fault(tensor, intake.features[intake.names.index(tensor.name)])
            if fault is not None:
                problems.append(Problem(f"{place}/datatype", "type", fault))
    named = {tensor.name for tensor in tensors}
    problems += [
        Problem("/inputs", "missing", f"required: a tensor {f.name}, {f.words}")
        for f in intake.features
        if f.name not in named
    ]
    if not problems and len({tensors[index].shape[0] for index in places.values()}) > 1:
        problems.append(Problem("/inputs", "type", "the tensors must have the same number of rows"))
    if problems:
        raise InvalidInstance(problems)
    order = [places[name] for name in intake.names]
    try:
        return intake.columns([tensors[index].column for index in order])
    except ServiceError as error:
        raise _moved(error, lambda row, column: f"/inputs/{order[int(column or 0)]}/data/{row}") from error


def _fault(tensor: Tensor, feature: Feature) -> str | None:
    """Say what is wrong with the datatype of a feature's tensor."""
    is_text = isinstance(tensor.column, list)
    if is_text == feature.is_category:
        return None
    return "must be BYTES" if feature.is_category else f"must be one of {', '.join(NUMERIC)}"


def _moved(error: ServiceError, place: Callable[[str, str | None], str]) -> ServiceError:
    """Return a refusal of rows with pointers into tensors: row and column → pointer."""

    def move(given: str) -> str:
        found = PLACE.fullmatch(given)
        return place(found[1], found[2]) if found and found[1] else "/inputs"

    return moved(error, move)


def _values(name: str, prediction: Prediction) -> NDArray[Any]:
    """Return one output as an array; of `label` the positions in the classes."""
    if name == "probabilities":
        return prediction.probabilities
    return prediction.novelty if name == "novelty" else prediction.classes


def _to_raw(name: str, values: NDArray[Any], classes: Sequence[str]) -> bytes:
    """Return one output as the bytes of a tensor."""
    if name == "label":
        texts = to_raw_texts(classes)
        return b"".join([texts[index] for index in values.tolist()])
    return values.astype("<i8" if name == "prediction" else "<f8").tobytes()


# --- what there is


def server_metadata(version: str) -> dict[str, Any]:
    """Return `GET /v2`."""
    return {"name": "rookery", "version": version, "extensions": ["binary_tensor_data"]}


def model_metadata(manifest: Manifest, engine: str) -> dict[str, Any]:
    """Return `GET /v2/models/{model}`: a tensor for each feature, by its name."""
    return {
        "name": manifest.name,
        "versions": [manifest.version],
        "platform": f"rookery_{engine}",
        "inputs": [{"name": f.name, "datatype": datatype(f), "shape": [-1]} for f in manifest.features],
        "outputs": [
            {"name": name, "datatype": kind, "shape": [-1, len(manifest.classes)] if name == "probabilities" else [-1]}
            for name, kind in OUTPUTS.items()
        ],
    }


def datatype(feature: Feature) -> str:
    """Return the datatype that says everything a feature can be."""
    return "BYTES" if feature.is_category else "INT64" if feature.dtype == "int" else "FP64"


def refuse_other(manifest: Manifest, name: str, version: str | None = None) -> None:
    """Refuse a model that is not the one served.

    Raises:
        RouteNotFound: it is another name or version.
    """
    if name != manifest.name:
        raise RouteNotFound(detail=f"there is no model {echo(name)!r} here; it is {manifest.name!r}")
    if version is not None and version != manifest.version:
        raise RouteNotFound(detail=f"{name!r} has no version {echo(version)!r} here; it is {manifest.version!r}")
