"""Applications that speak every protocol, as the protocols' own tests build them."""

from __future__ import annotations

from tests.unit.service.protocols.conftest import build

__all__ = ["build"]
