"""Applications that speak every protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from flask import Flask

from service.answer import Answerer
from service.app import create_app
from service.config import Settings
from service.loader import Ready

from .ways import VERTEX

ALL = Settings(vertex_predict_route=VERTEX, vertex_health_route="/v1/endpoints/1")

Build = Callable[..., Flask]


@pytest.fixture(scope="session")
def build(answerers: dict[str, Answerer]) -> Build:
    """Model and settings → an application."""
    built: dict[tuple[str, Settings], Flask] = {}

    def build(name: str = "penguins", **changes: object) -> Flask:
        settings = replace(ALL, **changes)
        if (name, settings) not in built:
            state = answerers[name].state
            assert isinstance(state, Ready)
            built[name, settings] = create_app(settings, Answerer(state, settings))
        return built[name, settings]

    return build
