"""From a bundle folder to a predictor that has proven itself, or a reason why not."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import cast

from model import predictor, verify
from model.errors import BundleError
from model.predictor import EngineName, Predictor
from service.config import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ready:
    """A verified, loaded and proven model."""

    predictor: Predictor

    @property
    def digest(self) -> str:
        """The digest of the bundle in use."""
        return self.predictor.bundle.digest


@dataclass(frozen=True)
class NotReady:
    """Why there is no model.

    Attributes:
        code: stable reason code, such as `hash_mismatch`.
        reason: the same for people.
    """

    code: str
    reason: str


State = Ready | NotReady


def load(settings: Settings) -> State:
    """Verify → load → golden rows. Never raises: a service without a model still says why."""
    start = time.perf_counter()
    try:
        bundle = verify.read(settings.model_uri, settings.model_digest)
        verified = time.perf_counter()
        ready = Ready(predictor.load(bundle, cast("EngineName | None", settings.engine)))
    except BundleError as error:
        log.error("model.refused", extra={"code": error.code, "reason": error.reason, "uri": str(settings.model_uri)})
        return NotReady(error.code, error.reason)
    except Exception:  # the last resort: whatever happens here, the process must be able to say that it is not ready
        log.exception("model.failed", extra={"uri": str(settings.model_uri)})
        return NotReady("load_failed", "the bundle could not be loaded; the log has the cause")
    log.info(
        "model.loaded",
        extra={
            "model": bundle.manifest.name,
            "version": bundle.manifest.version,
            "digest": bundle.digest,
            "engine": ready.predictor.engine.name,
            "verify_seconds": round(verified - start, 4),
            "load_and_golden_seconds": round(time.perf_counter() - verified, 4),
        },
    )
    return ready
