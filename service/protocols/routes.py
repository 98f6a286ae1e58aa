"""The doors of the standard protocols; what stands behind each is imported at the first call."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from flask import Blueprint, Response, request
from werkzeug.routing import BaseConverter

from service import dialects
from service.answer import Answerer, request_id_for
from service.config import Settings
from service.dialects import OWN, Dialect
from service.ops import as_json, refuse_dead, refuse_unready
from service.routes import this_call, to_response

if TYPE_CHECKING:
    from service.form import Form
    from service.protocols.intake import Intake

SUFFIX = ":predict"


class ModelName(BaseConverter):
    """A part of a path that does not end in the verb, so that a path is one route and `Allow` names its methods."""

    regex = f"(?:(?!{SUFFIX}$)[^/])+"


def blueprint(answerer: Answerer, settings: Settings) -> Blueprint:
    """Return the routes of the protocols that are on."""
    routes = Blueprint("protocols", __name__)

    @cache
    def intake() -> Intake:
        from service.protocols.intake import Intake

        return Intake(answerer.require_model(), answerer.native, settings)

    if "v2" in settings.protocols:
        _add_v2(routes, answerer, settings, intake)
    if "v1" in settings.protocols:
        _add_v1(routes, answerer, intake)
    if "vertex" in settings.protocols:
        _add_vertex(routes, answerer, settings, intake)
    if "mlflow" in settings.protocols or "sagemaker" in settings.protocols:
        _add_invocations(routes, answerer, settings, intake)
    return routes


def _answer(answerer: Answerer, form: Form) -> Response:
    """Answer the current request in a form."""
    return to_response(answerer.answer(this_call(), form))


def _add_v2(routes: Blueprint, answerer: Answerer, settings: Settings, intake: Callable[[], Intake]) -> None:
    """Add the Open Inference Protocol."""

    @routes.get("/v2", strict_slashes=False)
    def v2_server() -> Response:
        from service.protocols import v2

        return as_json(v2.server_metadata(settings.commit))

    @routes.get("/v2/health/live")
    def v2_live() -> Response:
        refuse_dead(answerer)
        return as_json({"live": True})

    @routes.get("/v2/health/ready")
    def v2_ready() -> Response:
        refuse_unready(answerer)
        return as_json({"ready": True, "live": True})

    @routes.get("/v2/models")
    def v2_models() -> Response:
        return as_json({"models": [answerer.require_model().predictor.manifest.name]})

    @routes.get("/v2/models/<model>")
    @routes.get("/v2/models/<model>/versions/<version>")
    def v2_model(model: str, version: str | None = None) -> Response:
        from service.protocols import v2

        predictor = answerer.require_model().predictor
        v2.refuse_other(predictor.manifest, model, version)
        return as_json(v2.model_metadata(predictor.manifest, predictor.engine.name))

    @routes.get("/v2/models/<model>/ready")
    @routes.get("/v2/models/<model>/versions/<version>/ready")
    def v2_model_ready(model: str, version: str | None = None) -> Response:
        from service.protocols import v2

        refuse_unready(answerer)
        v2.refuse_other(answerer.require_model().predictor.manifest, model, version)
        return as_json({"name": model, "ready": True})

    @routes.post("/v2/models/<model>/infer")
    @routes.post("/v2/models/<model>/versions/<version>/infer")
    def v2_infer(model: str, version: str | None = None) -> Response:
        from service.protocols import v2

        judged = intake()
        v2.refuse_other(judged.manifest, model, version)
        call = this_call()
        call = call._replace(request_id=request_id_for(call.request_id))
        form = v2.Infer(judged, call.request_id, request.headers.get(v2.HEADER_LENGTH))
        return to_response(answerer.answer(call, form))


def _add_v1(routes: Blueprint, answerer: Answerer, intake: Callable[[], Intake]) -> None:
    """Add KServe's first protocol."""
    routes.record_once(lambda state: state.app.url_map.converters.update(model_name=ModelName))

    @routes.get("/v1/models")
    def v1_models() -> Response:
        return as_json({"models": [answerer.require_model().predictor.manifest.name]})

    @routes.get("/v1/models/<model_name:model>")
    def v1_model(model: str) -> Response:
        from service.protocols import v2

        refuse_unready(answerer)
        v2.refuse_other(answerer.require_model().predictor.manifest, model)
        return as_json({"name": model, "ready": True})

    @routes.post(f"/v1/models/<model>{SUFFIX}")
    def v1_predict(model: str) -> Response:
        from service.protocols import v1, v2

        judged = intake()
        v2.refuse_other(judged.manifest, model)
        return _answer(answerer, v1.Predict(judged))


def _add_vertex(routes: Blueprint, answerer: Answerer, settings: Settings, intake: Callable[[], Intake]) -> None:
    """Add the two routes that Vertex AI names, unless they are our own."""
    health, predict = settings.vertex_health_route, settings.vertex_predict_route
    if health and health not in OWN:

        @routes.get(health)
        def vertex_health() -> Response:
            refuse_unready(answerer)
            return as_json({"status": "ready"})

    if predict and predict not in OWN:

        @routes.post(predict)
        def vertex_predict() -> Response:
            from service.protocols import v1

            return _answer(answerer, v1.Predict(intake(), dialects.VERTEX, predict))


def _add_invocations(routes: Blueprint, answerer: Answerer, settings: Settings, intake: Callable[[], Intake]) -> None:
    """Add MLflow's scoring server and SageMaker's container contract, which share their two routes."""
    has_mlflow, has_sagemaker = "mlflow" in settings.protocols, "sagemaker" in settings.protocols

    def dialect() -> Dialect:
        is_json = request.mimetype in ("", "application/json")
        return dialects.MLFLOW if has_mlflow and (is_json or not has_sagemaker) else dialects.SAGEMAKER

    def ready() -> Response:
        refuse_unready(answerer)
        return as_json({"status": "ready"})

    routes.add_url_rule("/ping", "ping", ready)
    if has_mlflow:
        routes.add_url_rule("/health", "health", ready)

    @routes.post("/invocations")
    def invocations() -> Response:
        from service.protocols.invocations import Invocations

        return _answer(answerer, Invocations(intake(), dialect()))

    if has_sagemaker:

        @routes.get("/execution-parameters")
        def execution_parameters() -> Response:
            return as_json(
                {
                    "MaxConcurrentTransforms": settings.workers,
                    "BatchStrategy": "MULTI_RECORD",
                    "MaxPayloadInMB": max(1, settings.max_body_bytes >> 20),
                }
            )
