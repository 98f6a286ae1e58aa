"""What a rollout needs of the platform that serves: read one service, write it back if nobody else did.

`cloudrun.py` implements `Platform` over Cloud Run's REST API; the tests hold one in memory that lies as the
real one does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


class PlatformError(Exception):
    """The platform did not do what was asked; the text is one line for a person."""


class Conflict(PlatformError):
    """The service has another etag than the one that was decided on: somebody else wrote. Nothing was changed."""


class Unavailable(PlatformError):
    """429, 5xx, no connection, no answer in time: read again; a write may or may not have been applied."""


class Refused(PlatformError):
    """400, 401, 403, 404: trying again does not help."""


@dataclass(frozen=True)
class Target:
    """One entry of the service's traffic.

    Attributes:
        revision: The revision's name; also for an entry that follows the latest revision, as the platform resolved it.
        percent: 0..100, the share of the service's own address.
        tag: The entry's tag, or empty.
        url: The address of the tag, or empty; only read, never written.
        latest: The entry follows the latest ready revision (`--to-latest`) instead of being pinned by name.
    """

    revision: str
    percent: int
    tag: str = ""
    url: str = ""
    latest: bool = False


@dataclass(frozen=True)
class Service:
    """One service as the platform reported it.

    Attributes:
        name: The service's name.
        etag: What a write must bring back (v2 `etag`, v1 `metadata.resourceVersion`).
        url: The service's own address.
        traffic: What is really served (`status.traffic`), in the platform's order; percents of entries for one
            revision add up.
        annotations: The service's annotations, not a revision's: changing them makes no new revision.
        latest_ready_revision: The newest revision that became ready, or empty.
        settled: What was asked for is what is served (`observedGeneration` is `generation`, the service is ready,
            `spec.traffic` is `status.traffic`). While it is False, `traffic` may still change by itself: read again.
        asked: The traffic that was asked for (`spec.traffic`), or None where it is `traffic`.
        latest_created_revision: The newest revision, ready or not (`status.latestCreatedRevisionName`), or empty.
        failed: The newest thing that was asked for cannot be served (the condition `Ready` is False).
    """

    name: str
    etag: str
    url: str
    traffic: tuple[Target, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)
    latest_ready_revision: str = ""
    settled: bool = True
    asked: tuple[Target, ...] | None = None
    latest_created_revision: str = ""
    failed: bool = False


class Platform(Protocol):
    """The one service that is rolled out."""

    def read(self) -> Service:
        """Read the service afresh.

        Raises:
            Unavailable: try again.
            Refused: no such service, or no right to read it.
        """
        ...

    def write(self, service: Service) -> Service:
        """Set the traffic and the annotations of the service, in one call, if its etag is still `service.etag`.

        Args:
            service: `traffic` is written as given (entries of 0 % need a tag; `latest` entries follow the latest
                revision), `annotations` replace the service's own wholly; everything else is left as it is.

        Returns:
            The service as the call reported it; it may not be settled yet.

        Raises:
            Conflict: the etag is another one; nothing was changed.
            Unavailable: it may or may not have been applied: read again.
            Refused: it was not applied and never will be.
        """
        ...
