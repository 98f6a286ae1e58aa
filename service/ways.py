"""Every route and the protocols that are spoken there: what metrics call them, from a closed list."""

from __future__ import annotations

import re

NO_ROUTE = "none"
# golden rows that a rollout asks for: counted at a route of their own, and nowhere as predictions
LOOK_ROUTE, LOOK_ID = "look", "rookery-look-"
VERTEX = "vertex"
ROOKERY = "rookery"

# route → protocols; what matched none, or was refused before it was read, is `none`
ROUTES = {
    "/predict": (ROOKERY,),
    "/": (ROOKERY,),
    "/assets/{version}/{name}": (ROOKERY,),
    "/feedback": (ROOKERY,),
    "/model": (ROOKERY,),
    "/model/drift": (ROOKERY,),
    "/health/live": (ROOKERY,),
    "/health/ready": (ROOKERY,),
    "/metrics": (ROOKERY,),
    "/version": (ROOKERY,),
    "/openapi.json": (ROOKERY,),
    "/docs": (ROOKERY,),
    "/docs/start.js": (ROOKERY,),
    "/docs/assets/{name}": (ROOKERY,),
    "/v2": ("v2",),
    "/v2/health/live": ("v2",),
    "/v2/health/ready": ("v2",),
    "/v2/models": ("v2",),
    "/v2/models/{model}": ("v2",),
    "/v2/models/{model}/ready": ("v2",),
    "/v2/models/{model}/infer": ("v2",),
    "/v1/models": ("v1",),
    "/v1/models/{model}": ("v1",),
    "/v1/models/{model}:predict": ("v1",),
    "/invocations": ("mlflow", "sagemaker"),
    "/ping": ("mlflow", "sagemaker"),
    "/health": ("mlflow", "sagemaker"),
    "/execution-parameters": ("mlflow", "sagemaker"),
    # whatever paths the environment names
    "vertex/predict": (VERTEX,),
    "vertex/health": (VERTEX,),
    LOOK_ROUTE: (ROOKERY,),
    NO_ROUTE: (ROOKERY, "v2", "v1", VERTEX, "mlflow", "sagemaker"),
}
# first those where all that can come is there from the beginning, so that a first refusal is seen
PREDICTING = ("/predict",)
WAYS = tuple((route, protocol) for route, protocols in ROUTES.items() for protocol in protocols)
PROTOCOLS = ROUTES[NO_ROUTE]


def way_of(route: str, protocol: str) -> tuple[str, str]:
    """Return route and protocol as metrics call them.

    Args:
        route: a rule of the application, or as a form writes it; empty for none.
        protocol: what was spoken.
    """
    known = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", route).replace("/versions/{version}", "")
    if known and (known, protocol) in WAYS:
        return known, protocol
    if protocol == VERTEX and route:
        return f"vertex/{'health' if 'health' in route else 'predict'}", VERTEX
    if known in ROUTES and known != NO_ROUTE:
        return known, ROUTES[known][0]
    return NO_ROUTE, protocol if protocol in PROTOCOLS else ROOKERY
