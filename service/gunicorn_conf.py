"""Gunicorn's configuration: `gunicorn -c service/gunicorn_conf.py`; every value comes from the settings or says why."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

from service import logs
from service.config import SettingError, Settings

try:
    _settings = Settings.from_env()
except SettingError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)

wsgi_app = "service.app:asgi()"
bind = [f"{_settings.bind_host}:{port}" for port in (_settings.port, _settings.ops_port) if port]
workers = _settings.workers

# Gunicorn's own event loop: slow clients cannot hold it up (decision 0006)
worker_class = "service.worker.Worker"
asgi_loop = "auto"
asgi_lifespan = "on"

# Cloud Run kills ten seconds after SIGTERM; a busy machine takes its time to end a process
graceful_timeout = 7
# without a sign of life from the loop for so long a worker is replaced
timeout = max(30, _settings.predict_seconds + 20)
# the worker closes idle connections itself, see service/deadlines.py
keepalive = _settings.idle_seconds

# loading after the fork keeps threads and engines out of the parent
preload_app = False
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - memory, so that a slow disk stalls nobody
control_socket_disable = True


def when_ready(server: Any) -> None:
    """Begin to note how workers end, before the first one is forked."""
    from service import ends

    ends.watch(server)


def pre_fork(server: Any, worker: Any) -> None:  # noqa: ARG001 - Gunicorn calls hooks by these names
    """Make what the parent process reads after the worker is gone."""
    from service import fleet, ledger, watchdog

    logs.use(_settings.log_format)
    watchdog.prepare(worker)
    worker.place = ledger.share(_settings.workers)
    worker.member = fleet.share(_settings.workers)


def post_fork(server: Any, worker: Any) -> None:
    """Begin to load the model, and let the C parser hold a whole body while its connection is still busy.

    The parser keeps 64 KiB and closes the connection on more: a large body after a small one was lost unanswered.
    """
    import time

    # before the imports, which are most of a replacement's start
    forked_at = time.time()

    from gunicorn.asgi.protocol import ASGIProtocol

    from service import startup

    logs.set_up(_settings.log_level, _settings.log_format)
    startup.begin(_settings, replaced_at=forked_at if worker.age > server.num_workers else None)

    if ASGIProtocol._check_h1c_protocol_available():
        limit_bytes = _settings.max_body_bytes + (128 << 10)
        ASGIProtocol._h1c_protocol_class = partial(ASGIProtocol._h1c_protocol_class, limit_remaining=limit_bytes)


def post_worker_init(worker: Any) -> None:
    """Watch the worker from within."""
    from service import watchdog

    watchdog.start(worker, _settings.predict_seconds)


def worker_exit(server: Any, worker: Any) -> None:  # noqa: ARG001 - see pre_fork
    """Note that the worker ends in good order."""
    from service import watchdog

    worker.finish()
    watchdog.finish()


def child_exit(server: Any, worker: Any) -> None:
    """Say, in the parent process, what a lost worker was doing; a crash counts against its bundle."""
    from service import ends, fleet, ledger, watchdog

    # a worker that ends while this one is reaped is reaped before its signal is looked at
    ends.note(server)
    blamed = watchdog.note_exit(worker)
    if blamed is not None and watchdog.sets_aside(blamed, _settings.cache_dir):
        watchdog.dismiss(server.WORKERS.values(), blamed)
    fleet.leave(getattr(worker, "member", None))
    if not ledger.fold(getattr(worker, "place", None)):
        logs.write_now("ERROR", "metrics.lost", pid=worker.pid, reason="more than 4 bundles were served")


# whoever looks on is told by our own lines; Gunicorn's, of every start and stop, would push them out of sight
_is_brief = _settings.log_level == "info" and logs.is_for_people(_settings.log_format, sys.stdout)
loglevel = "warning" if _is_brief else _settings.log_level
accesslog = None
errorlog = "-"
proc_name = "rookery"
