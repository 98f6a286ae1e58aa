"""From addresses to a predictor that has proven itself, or a reason why not: the pinned bundle, then its fallbacks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, cast

from model import manifest as manifests
from model import predictor, verify
from model.cache import Cache
from model.errors import BundleError
from model.manifest import EngineName, Manifest
from model.predictor import Predictor
from model.quarantine import refuse_foreign
from model.signing import PublicKeys
from model.store import Bucket, Deadline, is_address, parse
from model.verify import Remote, VerifiedBundle
from service import underway
from service.config import Settings

log = logging.getLogger(__name__)

# of the time to load, what the pinned bundle may take where another one may stand in
PINNED_SHARE = 7 / 8
# the reason code of a bundle that was set aside
QUARANTINED = "quarantined"
# the log says why a bundle on disk was deleted
PRUNED = "neither in use nor the last good one before: MODEL_CACHE_DIR keeps those two"


@dataclass(frozen=True)
class Attempt:
    """One bundle that was tried.

    Attributes:
        origin: `pinned`, `last_known_good`, `fallback` or `baked_in`.
        uri: where it was looked for.
        digest: the digest asked for, None if any.
        code: why it is not served, None if it is.
        reason: the same for people.
    """

    origin: str
    uri: str
    digest: str | None
    code: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Ready:
    """A verified, loaded and proven model.

    Attributes:
        predictor: answers.
        attempts: every bundle tried; the last one serves.
        phases: seconds of fetch (and hash), verify (signature, structure), load and golden rows.
    """

    predictor: Predictor
    attempts: tuple[Attempt, ...] = ()
    phases: dict[str, float] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The digest of the bundle in use."""
        return self.predictor.bundle.digest

    @property
    def origin(self) -> str:
        """Which kind of bundle serves: `pinned` or one of the fallbacks."""
        return self.attempts[-1].origin if self.attempts else "pinned"

    @property
    def is_fallback(self) -> bool:
        """Whether another bundle than the pinned one serves."""
        return len(self.attempts) > 1


@dataclass(frozen=True)
class NotReady:
    """Why there is no model.

    Attributes:
        code: stable reason code of the pinned bundle, such as `hash_mismatch`.
        reason: the same for people.
        attempts: every bundle tried.
        retry_seconds: when to try again.
    """

    code: str
    reason: str
    attempts: tuple[Attempt, ...] = ()
    retry_seconds: float = float(Settings.retry_seconds)


State = Ready | NotReady


@dataclass(frozen=True)
class Candidate:
    """A bundle that may serve, in the order they are tried."""

    origin: str
    uri: str
    digest: str | None


class Loader:
    """Tries the pinned bundle, then what may stand in for it."""

    def __init__(
        self,
        settings: Settings,
        open_bucket: Callable[[str], Bucket] = lambda uri: Bucket(parse(uri)),
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            settings: addresses, pins, limits.
            open_bucket: opens a `gs://` address; made when the first one is needed, never before Gunicorn forks.
            wall_clock: seconds since the epoch, for the expiry.
        """
        self._settings, self._open_bucket, self._wall_clock = settings, open_bucket, wall_clock
        self._cache = Cache(settings.cache_dir, wall_clock)
        self._keys: PublicKeys | None = settings.public_keys
        self._contract: str | None = settings.model_contract
        self._phases: dict[str, float] = {}
        # bundles that were refused because they are in quarantine, and the seconds that are left of it
        self._left: dict[str, float] = {}

    def load(self) -> State:
        """Return the first bundle that is verified, loaded and proven. Never raises.

        Where nothing stands in for a bundle in quarantine, the quarantine ends after `ROOKERY_QUARANTINE_SECONDS`.
        """
        state = self._load()
        over = [digest for digest, left in self._left.items() if left == 0]
        if isinstance(state, NotReady) and over:
            for digest in over:
                self._cache.quarantine.lift(digest)
            log.warning("model.quarantine_ended", extra={"digests": over})
            state = self._load()
        return state

    def _load(self) -> State:
        """Try every bundle once."""
        self._left.clear()
        whole = Deadline(self._settings.load_seconds)
        attempts: list[Attempt] = []
        candidates = self._candidates()
        # whoever stands in for a bundle that does not come needs time as well
        pinned = Deadline(self._settings.load_seconds * PINNED_SHARE) if len(candidates) > 1 else whole
        for candidate in candidates:
            try:
                ready = self._try(candidate, pinned if candidate.origin == "pinned" else whole)
            except BundleError as error:
                code, reason = error.code, error.reason
            except Exception:  # the last resort: whatever happens, the process must be able to say that it is not ready
                log.exception("model.failed", extra={"origin": candidate.origin, "uri": candidate.uri})
                code, reason = "load_failed", "the bundle could not be loaded; the log has the cause"
            else:
                attempts.append(Attempt(candidate.origin, candidate.uri, candidate.digest))
                return self._succeed(ready, attempts)
            log.error(
                "model.refused",
                extra={"origin": candidate.origin, "uri": candidate.uri, "code": code, "reason": reason},
            )
            attempts.append(Attempt(candidate.origin, candidate.uri, candidate.digest, code, reason))
        waits = [float(self._settings.retry_seconds)] if {one.code for one in attempts} != {QUARANTINED} else []
        wait = max(1.0, min([*waits, *self._left.values()]))
        return NotReady(attempts[0].code or "", attempts[0].reason or "", tuple(attempts), wait)

    def _candidates(self) -> list[Candidate]:
        """Return the bundles that may serve, in order."""
        s = self._settings
        found = [Candidate("pinned", s.model_uri, s.model_digest)]
        if s.allow_fallback:
            good = self._cache.last_known_good
            if good is not None:
                found.append(Candidate("last_known_good", str(self._cache.find(good)), good))
            if s.fallback_uri:
                found.append(Candidate("fallback", s.fallback_uri, s.fallback_digest))
            if s.baked_bundle.is_dir() and str(s.baked_bundle) != s.model_uri:
                found.append(Candidate("baked_in", str(s.baked_bundle), None))
        return found

    def _try(self, candidate: Candidate, deadline: Deadline) -> Predictor:
        """Fetch, verify, judge, load and prove one bundle."""
        start = time.perf_counter()
        bundle = self._read(candidate, deadline)
        verify_seconds = bundle.seconds["verify"]
        self._phases = {"fetch": time.perf_counter() - start - verify_seconds, "verify": verify_seconds}
        self._judge(candidate, bundle)
        refuse_foreign(self._settings.cache_dir)
        underway.current.load(bundle.digest)
        try:
            found = predictor.load(bundle, self._engine(candidate))
        finally:
            underway.current.end_load()
        self._phases.update(found.load_seconds)
        return found

    def _read(self, candidate: Candidate, deadline: Deadline) -> VerifiedBundle:
        """Return a bundle's verified bytes: from disk if they are there, from the bucket else."""
        learn = self._learn if candidate.origin == "pinned" else None
        only = self._engine(candidate) or "default"
        if not is_address(candidate.uri):
            return verify.read(Path(candidate.uri), candidate.digest, self._keys, learn, only=only)
        digest = candidate.digest or parse(candidate.uri).digest
        if digest is None:
            return verify.read(Remote(self._open_bucket(candidate.uri), deadline), None, self._keys, only=only)
        baked = self._read_copy(self._settings.baked_bundle, digest, learn, only)
        if baked is not None:
            return baked
        with self._cache.lock(digest, deadline):
            kept = self._read_copy(self._cache.find(digest), digest, learn, only)
            if kept is not None:
                return kept
            bundle = verify.read(
                Remote(self._open_bucket(candidate.uri), deadline), digest, self._keys, learn, only=only
            )
            self._keep(bundle)
        return bundle

    def _engine(self, candidate: Candidate) -> EngineName | None:
        """Return the engine that is to serve a bundle: what is set is meant for the pinned one."""
        return cast("EngineName | None", self._settings.engine) if candidate.origin == "pinned" else None

    def _learn(self, manifest: Manifest) -> None:
        """Remember the contract of the pinned bundle: a stand-in can be compared even if the pinned files are bad."""
        self._contract = manifests.contract(manifest)

    def _read_copy(
        self,
        folder: Path | None,
        digest: str,
        learn: Callable[[Manifest], None] | None,
        only: EngineName | Literal["default"],
    ) -> VerifiedBundle | None:
        """Return a copy on disk if it is whole and the one asked for."""
        if folder is None or not folder.is_dir():
            return None
        try:
            return verify.read(folder, digest, self._keys, learn, only=only)
        except BundleError as error:
            if error.code != "digest_mismatch" or folder != self._settings.baked_bundle:
                log.warning("model.copy_refused", extra={"uri": str(folder), "code": error.code})
            return None

    def _keep(self, bundle: VerifiedBundle) -> None:
        """Keep a downloaded bundle on disk; a full or read-only disk only costs the next download."""
        try:
            self._cache.drop(bundle.digest)
            self._cache.keep(bundle)
        except (OSError, BundleError) as error:
            log.warning("model.not_kept", extra={"cache": str(self._settings.cache_dir), "reason": str(error)})

    def _judge(self, candidate: Candidate, bundle: VerifiedBundle) -> None:
        """Refuse a bundle that is too old, expired, set aside, or not the same contract as the pinned one."""
        manifest, contract = bundle.manifest, manifests.contract(bundle.manifest)
        if candidate.origin == "pinned" and self._contract is None:
            self._contract = contract
        if manifest.serial < self._settings.min_serial:
            reason = f"serial {manifest.serial} is below MODEL_MIN_SERIAL {self._settings.min_serial}"
            raise BundleError("serial_too_low", reason)
        if manifest.expires is not None and self._is_past(manifest.expires):
            raise BundleError("expired", f"the bundle expired at {manifest.expires[:40]}; publish a newer one")
        left = self._cache.quarantine.left_seconds(bundle.digest, self._settings.quarantine_seconds)
        if left is not None:
            self._left[bundle.digest] = left
            raise BundleError(QUARANTINED, "three processes crashed within 60 seconds while they used this bundle")
        if self._contract is None and candidate.origin == "fallback":
            # the pinned manifest cannot be read; the operator named this one as its stand-in
            self._contract = contract
        if self._contract is None:
            raise BundleError("contract_unknown", "the pinned manifest cannot be read; set ROOKERY_MODEL_CONTRACT")
        if contract != self._contract:
            raise BundleError("other_contract", f"{manifest.name} {manifest.version} takes or answers something else")

    def _is_past(self, expires: str) -> bool:
        """Whether a moment (ISO 8601, UTC if it says nothing) is over; one that cannot be read is."""
        try:
            moment = datetime.fromisoformat(expires)
        except ValueError:
            return True
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return moment.timestamp() <= self._wall_clock()

    def _succeed(self, found: Predictor, attempts: list[Attempt]) -> Ready:
        """Remember a good bundle and say how it went."""
        ready = Ready(found, tuple(attempts), dict(self._phases))
        if self._cache.find(ready.digest) is not None:
            try:
                pruned = self._cache.remember(ready.digest)
            except (OSError, BundleError) as error:
                log.warning("model.not_remembered", extra={"reason": str(error)})
            else:
                for digest in pruned:
                    log.info("model.pruned", extra={"digest": digest, "reason": PRUNED})
        manifest = found.manifest
        phases = {f"{name}_seconds": round(seconds, 4) for name, seconds in ready.phases.items()}
        extra = {
            "model": manifest.name,
            "version": manifest.version,
            "digest": ready.digest,
            "engine": found.engine.name,
            "origin": attempts[-1].origin,
            **phases,
        }
        if ready.is_fallback:
            log.warning("model.fallback_in_use", extra={**extra, "pinned_code": attempts[0].code})
        else:
            log.info("model.loaded", extra=extra)
        return ready
