"""Where events come from: files of JSON lines, or Cloud Logging."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from scripts.quality.events import FEEDBACK, PREDICTION

PAGE_ROWS = 1_000


class SourceError(Exception):
    """Events cannot be read; the text is one line that says what and where."""


def of_files(paths: Sequence[Path]) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of files of JSON lines; other lines, as those of Gunicorn, are passed over.

    Entries as `gcloud logging read --format=json` writes them, an array of them on one line included, are unwrapped.

    Raises:
        SourceError: a file cannot be read.
    """
    for path in paths:
        try:
            with path.open(encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    yield from _objects(line)
        except OSError as error:
            raise SourceError(f"{path}: {error.strerror}") from error


def _objects(line: str) -> Iterator[Mapping[str, Any]]:
    """Yield what a line holds."""
    try:
        value = json.loads(line)
    except ValueError:
        return
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, dict):
            payload = one.get("jsonPayload", one)
            if isinstance(payload, dict):
                yield payload


def of_cloud_logging(project: str, service: str, since: datetime, endpoint: str | None) -> Iterator[Mapping[str, Any]]:
    """Yield the events of a Cloud Run service.

    Args:
        project: its id.
        service: name of the service.
        since: the earliest.
        endpoint: another address of the API, spoken to without credentials; None for Google's.

    Raises:
        SourceError: Cloud Logging refuses, or cannot be reached.
    """
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
    from requests.exceptions import RequestException

    try:
        for entry in _client(project, endpoint).list_entries(
            filter_=filter_for(service, since), page_size=PAGE_ROWS, order_by="timestamp asc"
        ):
            if isinstance(entry.payload, Mapping):
                yield entry.payload
    except DefaultCredentialsError as error:
        raise SourceError("no credentials; run: gcloud auth application-default login") from error
    except (GoogleAPIError, GoogleAuthError, RequestException) as error:
        raise SourceError(f"Cloud Logging of {project}: {' '.join(str(error).split())[:300]}") from error


def filter_for(service: str, since: datetime) -> str:
    """Return the query for the events of a service."""
    return (
        'resource.type="cloud_run_revision" '
        f"resource.labels.service_name={json.dumps(service)} "
        f'jsonPayload.message=("{PREDICTION}" OR "{FEEDBACK}") '
        f'timestamp>="{since.isoformat()}"'
    )


def _client(project: str, endpoint: str | None) -> Any:
    """Return Google's client; over HTTP, as this reads much and needs nothing quickly."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.logging import Client

    if endpoint is None:
        return Client(project=project, _use_grpc=False)
    options = {"api_endpoint": endpoint}
    credentials = AnonymousCredentials()  # type: ignore[no-untyped-call]
    return Client(project=project, credentials=credentials, _use_grpc=False, client_options=options)
