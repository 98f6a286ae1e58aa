"""Which routes answer at which port, where operations have a port of their own: `ROOKERY_OPS_PORT`.

Whoever may call the service need not be able to read its numbers, or to write any accuracy into them. Imported where
there is such a port, and not before.
"""

from __future__ import annotations

from flask import Flask, request

from service.errors import RouteNotFound

# nowhere but at the port for operations
MOVED = ("/metrics", "/model/drift", "/feedback")
# at both: whoever looks after the process may know only one of them
SHARED = ("/health/live", "/health/ready", "/version")


def part(app: Flask, ops_port: int) -> None:
    """Let each port answer its own routes; what belongs to the other one is not there."""
    own = frozenset((*MOVED, *SHARED))

    @app.before_request
    def refuse_elsewhere() -> None:
        # the path and not the rule: a wrong method would otherwise tell that there is one
        path = request.path
        if request.environ["SERVER_PORT"] == str(ops_port):
            if path not in own:
                raise RouteNotFound(detail=f"this port is for operations and has {', '.join((*MOVED, *SHARED))}")
        elif path in MOVED:
            raise RouteNotFound(detail="see /docs for the routes there are")
