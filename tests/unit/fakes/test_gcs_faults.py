"""Each fault is seen by a client as what it is named after, and ends when the fake does."""

from __future__ import annotations

import http.client
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from google.api_core import exceptions
from google.cloud.storage.exceptions import DataCorruption
from google.cloud.storage.retry import DEFAULT_RETRY

from tests.fakes.gcs import FakeStorage, Fault
from tests.unit.fakes.conftest import BUCKET, CONTENT

MEDIA = f"/download/storage/v1/b/{BUCKET}/o/m.json?alt=media"
METADATA = f"/storage/v1/b/{BUCKET}/o/m.json"
QUICK = DEFAULT_RETRY.with_delay(initial=0.01, maximum=0.02).with_timeout(20)
ENDINGS = (http.client.IncompleteRead, ConnectionError, TimeoutError)


@pytest.fixture
def blob(faults, bucket):
    """The object, seen by the real client."""
    return bucket.blob("m.json")


@pytest.fixture
def open_media(fake: FakeStorage):
    """Start a download and leave its body to the test."""
    opened = []

    def start(timeout_seconds: float = 10) -> http.client.HTTPResponse:
        opened.append(http.client.HTTPConnection("127.0.0.1", fake.port, timeout=timeout_seconds))
        opened[-1].request("GET", MEDIA)
        opened.append(opened[-1].getresponse())
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@pytest.mark.parametrize("status", [401, 403, 404, 408, 429, 500, 502, 503, 504])
def test_a_status_comes_once_and_then_the_object(faults, raw, status):
    faults.add(Fault("status", match="m.json", status=status, headers=(("Retry-After", "1"),)))
    refused = raw("GET", METADATA)
    error = json.loads(refused.body)["error"]
    assert (status, status, "1") == (refused.status, error["code"], refused.headers["Retry-After"])
    assert [error["message"]] == [one["message"] for one in error["errors"]]
    assert raw("GET", METADATA).status == 200
    assert faults.waiting == ()


def test_the_client_retries_what_passes_and_gives_up_what_does_not(fake, faults, blob):
    faults.add(Fault("status", status=503, times=2))
    assert blob.download_as_bytes(retry=QUICK) == CONTENT
    assert [one.status for one in fake.seen("media")] == [503, 503, 200]
    faults.add(Fault("status", status=403))
    with pytest.raises(exceptions.Forbidden):
        blob.download_as_bytes(retry=QUICK)


@pytest.mark.parametrize(("after", "stored"), [(False, []), (True, ["new"])], ids=["before", "after"])
@pytest.mark.parametrize("kind", ["status", "reset"])
def test_an_upload_fails_before_or_after_it_was_stored(fake, bucket, kind, after, stored):
    fake.faults.add(Fault(kind, op="insert", after=after))
    with pytest.raises((exceptions.ServiceUnavailable, requests.ConnectionError)):
        bucket.blob("new").upload_from_string(b"x", retry=None)
    assert stored == fake.names(BUCKET)


def test_a_retried_create_meets_its_own_object(fake, bucket):
    fake.faults.add(Fault("status", op="insert", after=True))
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("new").upload_from_string(b"x", if_generation_match=0, retry=QUICK)
    assert fake.get(BUCKET, "new") == b"x"


def test_a_chunk_can_fail_and_be_taken_up_again(fake, bucket):
    fake.faults.add(Fault("status", op="chunk", match="big", status=503, after=True))
    blob = bucket.blob("big", chunk_size=256 * 1024)
    with blob.open("wb", chunk_size=256 * 1024, retry=QUICK) as stream:
        stream.write(CONTENT * 3000)
    assert fake.get(BUCKET, "big") == CONTENT * 3000


def test_a_reset_before_the_reply(faults, raw, fake):
    faults.add(Fault("reset"))
    with pytest.raises(ConnectionResetError):
        raw("GET", METADATA)
    assert [one.status for one in fake.seen("metadata")] == [None]


def test_a_reset_in_the_body_leaves_what_came_before(faults, open_media):
    faults.add(Fault("reset", at=50))
    reply = open_media()
    assert reply.read(50) == CONTENT[:50]
    with pytest.raises(ConnectionResetError):
        reply.read()


def test_the_client_takes_up_after_a_reset_where_it_was(fake, faults, blob, tmp_path):
    fake.put(BUCKET, "m.json", CONTENT * 500)
    faults.add(Fault("reset", at=50_000, op="media"))
    blob.download_to_filename(str(tmp_path / "m"), retry=QUICK)
    assert (tmp_path / "m").read_bytes() == CONTENT * 500
    assert [one.status for one in fake.seen("media")] == [200, 206]


def test_truncated_under_the_full_length(faults, raw):
    faults.add(Fault("truncate", at=50))
    with pytest.raises(http.client.IncompleteRead) as cut:
        raw("GET", MEDIA)
    assert cut.value.partial == CONTENT[:50]


@pytest.mark.parametrize("framing", [{"declared": 50}, {"chunked": True}], ids=["short-length", "chunked"])
def test_truncated_with_nothing_to_see_in_the_framing(faults, raw, framing):
    faults.add(Fault("truncate", at=50, **framing))
    assert raw("GET", MEDIA).body == CONTENT[:50]


def test_the_client_is_deceived_by_a_short_body_without_a_hash(faults, blob):
    faults.add(Fault("truncate", at=50, declared=50, hash="absent"))
    assert blob.download_as_bytes(retry=QUICK) == CONTENT[:50]


def test_a_stall_lasts_until_the_client_gives_up(faults, open_media):
    faults.add(Fault("stall", at=50))
    reply = open_media(0.2)
    assert reply.read(50) == CONTENT[:50]
    with pytest.raises(TimeoutError):
        reply.read(1)


def test_a_stall_with_an_end_goes_on(faults, raw):
    faults.add(Fault("stall", at=50, seconds=0.01))
    assert raw("GET", MEDIA).body == CONTENT


@pytest.mark.parametrize(
    "fault",
    [
        Fault("stall", at=50),
        Fault("drip", at=50, seconds=600),
        Fault("slow-start", op="media", seconds=600),
        Fault("endless"),
        Fault("endless", chunked=True),
    ],
    ids=["stall", "drip", "slow-start", "endless", "endless-chunked"],
)
def test_stopping_the_fake_ends_every_wait(fake, faults, raw, fault):
    faults.add(fault)
    with ThreadPoolExecutor(1) as pool:
        download = pool.submit(raw, "GET", MEDIA)
        fake.await_seen(1, "media")
        fake.stop()
        ended = download.exception(timeout=30)
    # Without a length or an end of its own, a body that breaks off looks whole.
    assert isinstance(ended, ENDINGS) or (ended is None and fault == Fault("endless"))
    assert [thread.name for thread in threading.enumerate() if thread.name == "fake-gcs"] == []


def test_a_drip_arrives_whole_in_the_end(faults, raw):
    faults.add(Fault("drip", at=190, seconds=0.001))
    assert raw("GET", MEDIA).body == CONTENT


def test_a_slow_start_arrives_whole(faults, raw):
    faults.add(Fault("slow-start", seconds=0.01))
    assert raw("GET", MEDIA).body == CONTENT


def test_one_bit_is_flipped_and_the_hash_finds_it(faults, raw, blob):
    faults.add(Fault("flip", at=7, bit=3, times=2))
    got = raw("GET", MEDIA).body
    assert [
        (at, ours ^ theirs) for at, (ours, theirs) in enumerate(zip(CONTENT, got, strict=True)) if ours != theirs
    ] == [(7, 8)]
    with pytest.raises(DataCorruption):
        blob.download_as_bytes(retry=QUICK)


@pytest.mark.parametrize("lie", ["absent", "sent"])
def test_a_flipped_bit_gets_through_where_the_hash_lies_too(faults, blob, lie):
    faults.add(Fault("flip", at=7, hash=lie))
    assert blob.download_as_bytes(retry=QUICK) == CONTENT[:7] + bytes([CONTENT[7] ^ 1]) + CONTENT[8:]


def test_html_comes_instead(faults, raw, blob):
    faults.add(Fault("replace", hash="absent", drop=("X-Goog-Stored-Content-Length",), times=2))
    reply = raw("GET", MEDIA)
    assert (reply.headers.get_content_type(), b"<!DOCTYPE html>") == ("text/html", reply.body[:15])
    assert "X-Goog-Stored-Content-Length" not in reply.headers
    assert blob.download_as_bytes(retry=QUICK) == reply.body


def test_a_length_that_is_too_long_breaks_off(faults, raw):
    faults.add(Fault("length", declared=1000))
    with pytest.raises(http.client.IncompleteRead):
        raw("GET", MEDIA)


def test_a_length_that_is_too_short_cuts(faults, raw):
    faults.add(Fault("length", declared=10))
    assert raw("GET", MEDIA).body == CONTENT[:10]


def test_the_size_in_the_metadata_lies(faults, blob):
    faults.add(Fault("size", declared=7))
    blob.reload()
    assert blob.size == 7
    faults.add(Fault("size", op="media", declared=7))
    assert blob.download_as_bytes() == CONTENT


def test_a_wrong_hash_is_noticed_by_the_client(faults, blob):
    faults.add(Fault("hash"))
    with pytest.raises(DataCorruption):
        blob.download_as_bytes(retry=QUICK)


@pytest.mark.parametrize(("lie", "told"), [("absent", False), ("wrong", True)])
def test_a_hash_in_the_metadata_lies(faults, raw, lie, told):
    true = json.loads(raw("GET", METADATA).body)
    faults.add(Fault("hash", op="metadata", hash=lie))
    lied = json.loads(raw("GET", METADATA).body)
    assert (told, True) == ("md5Hash" in lied, true["md5Hash"] != lied.get("md5Hash"))


def test_a_missing_hash_is_missing(faults, raw):
    faults.add(Fault("hash", hash="absent"))
    assert "X-Goog-Hash" not in raw("GET", MEDIA).headers


@pytest.mark.parametrize("framing", [{}, {"chunked": True}, {"declared": 10**12}], ids=["none", "chunked", "declared"])
def test_an_endless_body_outlasts_the_object(faults, open_media, framing):
    faults.add(Fault("endless", **framing))
    assert open_media().read(1_000_000) == CONTENT + bytes(1_000_000 - len(CONTENT))
