"""Puts the service together: the only place where settings, model, doors and framework meet."""

from __future__ import annotations

import atexit
import gc
import logging
import threading
import time
from collections.abc import Callable

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException
from werkzeug.exceptions import MethodNotAllowed as WerkzeugMethodNotAllowed

from service import errors, fleet, front_page, ledger, logs, memory, ops, pages, routes, startup
from service.admission import Admission
from service.answer import Answerer, request_id_for
from service.config import Settings
from service.errors import OtherHttpError, RouteNotFound, ServiceError
from service.events import Events
from service.loader import NotReady, State
from service.memory import Budget
from service.monitor import WAITED, Consumer, Monitor, Served
from service.protocols import routes as protocols
from service.routes import Answered, to_response
from service.server import Bridge
from service.startup import Startup
from service.tally import Tally

log = logging.getLogger(__name__)

# in a WSGI environ: when the request was begun, and why it is refused
BEGAN, REFUSAL = "rookery.began", "rookery.refusal"

# objects made and not freed before the garbage collector looks at the young ones
COLLECT_AFTER = 10_000


def create_app(settings: Settings, answerer: Answerer | None = None, tally: Tally | None = None) -> Flask:
    """Return the Flask application.

    Args:
        settings: from `Settings.from_env`.
        answerer: one that is already loaded; None loads the bundle of the settings.
        tally: what the answerer's monitor counts in; None for one in which nothing is counted.
    """
    answerer = answerer or Answerer(startup.finish(settings), settings)
    tally = tally or Tally(answerer.state)
    app = Flask(__name__, static_folder=None)
    # a path is one route or none: no redirects
    app.url_map.merge_slashes = False
    app.register_blueprint(routes.blueprint(answerer))
    app.register_blueprint(ops.blueprint(answerer, settings, tally))
    app.register_blueprint(pages.blueprint(answerer, settings))
    app.register_blueprint(protocols.blueprint(answerer, settings))
    if settings.feedback:
        # imported where it is wanted: the start does not wait for it
        from service import feedback
        from service.recent import Recent

        recent = Recent()
        answerer.monitor.add(recent)
        app.register_blueprint(feedback.blueprint(answerer, recent, tally, settings.max_instances))
    if settings.page:
        app.register_blueprint(front_page.blueprint())
    _handle_errors(app, answerer)
    # what is registered last runs first
    _note(app, answerer)
    if settings.ops_port is not None:
        from service import ports

        ports.part(app, settings.ops_port)
    _add_headers(app, answerer, settings)
    return app


def asgi() -> Bridge:
    """Return what Gunicorn's event loop calls, from the settings in the environment."""
    settings = Settings.from_env()
    logs.set_up(settings.log_level, settings.log_format)
    state = startup.finish(settings)
    tally = Tally(state, ledger.current, ledger.own)
    answerer = Answerer(state, settings, Monitor(_watchers(state, settings, tally)))
    clock = Startup(state)
    app = create_app(settings, answerer, tally)
    # what a thread finishes after the loop has ended
    atexit.register(answerer.monitor.flush)
    admission = Admission(settings.wait_seconds, settings.most_waiting)
    # what is loaded stays: the collector need not look at it after every few rows of a batch (decision 0020)
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)

    def say(unready: NotReady) -> None:
        answerer.state = unready
        fleet.say(fleet.UNREADY, unready.code)

    def listening() -> None:
        clock.listening()
        tally.started(clock.phases, time.time())
        if isinstance(state, NotReady):
            say(state)
            threading.Thread(target=startup.try_again, args=(settings, state, say), name="retry", daemon=True).start()
        else:
            fleet.say(fleet.READY)
        threading.Thread(target=answerer.native.prepare, name="prepare", daemon=True).start()

    limit_bytes, has_door, route_of = settings.max_body_bytes, settings.fast_path, _finder(app)
    bodies = Budget.of(settings.body_memory_bytes, settings.workers, limit_bytes, memory.find())
    bridge = Bridge(app, answerer, limit_bytes, has_door, listening, admission, route_of, settings.ops_port, bodies)
    tally.look(lambda: bridge.in_flight)
    return bridge


def _watchers(state: State, settings: Settings, tally: Tally) -> list[Consumer]:
    """Return who reads finished calls."""
    watchers: list[Consumer] = [Events(state, settings)]
    if settings.metrics:
        watchers.append(tally)
    if settings.trace_endpoint:
        from service.trace_export import TraceExport

        export = TraceExport(state, settings)
        atexit.register(export.close)
        watchers += [export, tally.trace(settings)]
    return watchers


def _finder(app: Flask) -> Callable[[str, str], str]:
    """Return what tells the rule that a method and a path match."""
    adapter = app.url_map.bind("")

    def find(method: str, path: str) -> str:
        try:
            rule, _ = adapter.match(path, method, return_rule=True)
        except HTTPException:
            return ""
        return str(rule.rule)

    return find


def _handle_errors(app: Flask, answerer: Answerer) -> None:
    """Turn every exception into a problem document, in one place."""

    def reply(error: BaseException) -> Response:
        request.environ[REFUSAL] = error
        refuse = answerer.dialects.of(request.path).refuse
        return to_response(refuse(error, _request_id(), answerer.headers), Response)

    @app.errorhandler(ServiceError)
    def refused(error: ServiceError) -> Response:
        return reply(error)

    @app.errorhandler(HTTPException)
    def refused_by_flask(error: HTTPException) -> Response:
        return reply(_translate(error))

    @app.errorhandler(Exception)
    def failed(error: Exception) -> Response:
        log.exception("request.failed", extra={"request_id": _request_id(), "route": request.path[:64]})
        return reply(error)


def _translate(error: HTTPException) -> ServiceError:
    """Give the framework's refusals our form."""
    if isinstance(error, WerkzeugMethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        return errors.MethodNotAllowed(detail=f"allowed: {allowed}", headers=(("Allow", allowed),))
    if error.code == 404:
        return RouteNotFound(detail="see /docs for the routes there are")
    return OtherHttpError(error.code or 500, error.name)


def _request_id() -> str:
    """Return the id of the current request, the same one however often it is asked for."""
    found: str | None = request.environ.get("rookery.request_id")
    if found is None:
        found = request.environ["rookery.request_id"] = request_id_for(request.headers.get("X-Request-Id", ""))
    return found


def _note(app: Flask, answerer: Answerer) -> None:
    """Tell the monitor about every request but those that the answerer answered."""
    monitor, dialects = answerer.monitor, answerer.dialects

    @app.before_request
    def begin() -> None:
        request.environ[BEGAN] = time.perf_counter()

    @app.after_request
    def note(response: Response) -> Response:
        if not isinstance(response, Answered):
            environ, route = request.environ, "" if request.url_rule is None else request.url_rule.rule
            began, wait, request_id = environ[BEGAN], environ.get(WAITED, 0.0), response.headers["X-Request-Id"]
            # an error that stays in the request it is about would stay until the garbage collector runs
            refusal, protocol = environ.pop(REFUSAL, None), dialects.of(request.path).protocol
            if refusal is not None:
                monitor.note_refusal(refusal, request_id, route=route, protocol=protocol, began=began, wait=wait)
            else:
                total = time.perf_counter() - began
                monitor.note(Served(protocol, route, response.status_code, "", request_id, began, wait, total))
        return response


def _add_headers(app: Flask, answerer: Answerer, settings: Settings) -> None:
    """Give every answer its request id, the model's digest, and CORS where that is open."""

    @app.after_request
    def add(response: Response) -> Response:
        if "X-Request-Id" not in response.headers:
            response.headers["X-Request-Id"] = _request_id()
        for name, value in answerer.headers:
            response.headers[name] = value
        origin = request.headers.get("Origin")
        if settings.cors_origins and (origin or request.method != "POST"):
            response.headers.add("Vary", "Origin")
        if origin in settings.cors_origins:
            response.headers["Access-Control-Allow-Origin"] = origin
            if request.method == "OPTIONS":
                response.headers["Access-Control-Allow-Methods"] = "GET, POST"
                response.headers["Access-Control-Allow-Headers"] = "Content-Type, X-Request-Id"
            exposed = "X-Request-Id, X-Model-Digest, X-Model-Fallback, Server-Timing"
            response.headers["Access-Control-Expose-Headers"] = exposed
        return response
