"""A fake Cloud Storage with one bucket, the real client of it, and raw requests past that client."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from google.cloud import storage

from tests.fakes.gcs import FakeStorage, tidy
from tests.fakes.gcs import fake_storage as fake_storage
from tests.fakes.gcs_faults import FaultQueue

BUCKET = "models"
CONTENT = bytes(range(200))


@dataclass(frozen=True)
class RawReply:
    """A reply as http.client sees it."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


@pytest.fixture
def fake(fake_storage: FakeStorage) -> FakeStorage:
    """The fake, with a bucket."""
    fake_storage.create_bucket(BUCKET)
    return fake_storage


@pytest.fixture
def client(fake: FakeStorage, monkeypatch: pytest.MonkeyPatch) -> Iterator[storage.Client]:
    """The real client, found through the environment as in production."""
    for name, value in fake.environment().items():
        monkeypatch.setenv(name, value)
    with tidy(storage.Client()) as made:
        yield made


@pytest.fixture
def bucket(client: storage.Client) -> storage.Bucket:
    """The bucket, seen by the real client."""
    return client.bucket(BUCKET)


@pytest.fixture
def raw(fake: FakeStorage) -> Callable[..., RawReply]:
    """Send one request over a connection of its own: `raw(method, target, body, headers)`."""

    def send(method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> RawReply:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", fake.port, timeout=10)) as connection:
            connection.request(method, target, body, headers or {})
            with connection.getresponse() as reply:
                return RawReply(reply.status, reply.headers, reply.read())

    return send


@pytest.fixture
def faults(fake: FakeStorage) -> FaultQueue:
    """The fault queue of a fake with one object, m.json of `CONTENT`."""
    fake.put(BUCKET, "m.json", CONTENT)
    return fake.faults
