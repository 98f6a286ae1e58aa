"""The fake Cloud Storage keeps the real one's promises to the real client."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import google_crc32c
import pytest
from google.api_core import exceptions
from google.cloud import storage

from tests.fakes.gcs import FakeStorage, Fault
from tests.unit.fakes.conftest import BUCKET

CHUNK = 256 * 1024
NAMES = ["a", "a/b/c.json", "é ü.json", "100%.json", "a%2Fb", "q?x=1&y=2#z", "plus+and space"]
OBJECT = f"/storage/v1/b/{BUCKET}/o/m.json"
UPLOAD = f"/upload/storage/v1/b/{BUCKET}/o"
NOTHING = {"domain": "global", "message": f"No such object: {BUCKET}/m.json", "reason": "notFound"}


@pytest.mark.parametrize("name", NAMES)
def test_an_object_comes_back_under_the_name_it_was_given(fake, bucket, name):
    bucket.blob(name).upload_from_string(b"\x00 one \r\n two \n")
    assert bucket.blob(name).download_as_bytes() == b"\x00 one \r\n two \n"
    assert [name] == [blob.name for blob in bucket.list_blobs()] == fake.names(BUCKET)


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 3 * CHUNK], ids=lambda size: f"{size}-bytes")
def test_a_resumable_upload_arrives_whole(fake, bucket, size):
    content = bytes(index % 251 for index in range(size))
    bucket.blob("m", chunk_size=CHUNK).upload_from_file(io.BytesIO(content), content_type="text/plain")
    assert content == fake.get(BUCKET, "m")
    assert bucket.get_blob("m").content_type == "text/plain"


def test_a_chunk_in_between_is_answered_with_308_and_what_has_arrived(fake, bucket):
    bucket.blob("m", chunk_size=CHUNK).upload_from_file(io.BytesIO(bytes(CHUNK + 1)))
    assert [(one.op, one.status) for one in fake.seen(match="m")] == [("start", 200), ("chunk", 308), ("chunk", 200)]


def test_a_resumable_upload_tells_where_it_stands(raw):
    where = raw("POST", f"{UPLOAD}?uploadType=resumable&name=m").headers["Location"]
    assert _stands(raw("PUT", where, b"", {"Content-Range": "bytes */6"})) == (308, None)
    assert _stands(raw("PUT", where, b"abc", {"Content-Range": "bytes 0-2/6"})) == (308, "bytes=0-2")
    assert _stands(raw("PUT", where, b"", {"Content-Range": "bytes */6"})) == (308, "bytes=0-2")
    assert raw("PUT", where, b"f", {"Content-Range": "bytes 5-5/6"}).status == 400
    assert raw("PUT", where, b"bcdef", {"Content-Range": "bytes 1-5/6"}).status == 200
    assert json.loads(raw("PUT", where, b"", {"Content-Range": "bytes */6"}).body)["size"] == "6"


def _stands(reply):
    return reply.status, reply.headers.get("Range")


@pytest.mark.parametrize("boundary", ['"=x=="', "'=x=='", "=x=="], ids=["double", "single", "unquoted"])
@pytest.mark.parametrize("end", [b"\r\n", b"\n"], ids=["crlf", "lf"])
def test_a_multipart_upload_keeps_every_byte(fake, raw, boundary, end):
    content = b"\r\n--=y\n" + bytes(range(256)) + b"\r"
    about = json.dumps({"name": "m.json", "metadata": {"k": "v"}}).encode()
    parts = [b"--=x==", b"content-type: application/json", b"", about, b"--=x==", b"Content-Type: text/x", b"", content]
    body = end.join([*parts, b"--=x==--", b""])
    kind = {"Content-Type": f"multipart/related; boundary={boundary}"}
    made = json.loads(raw("POST", f"{UPLOAD}?uploadType=multipart", body, kind).body)
    assert (made["contentType"], made["metadata"]) == ("text/x", {"k": "v"})
    assert content == fake.get(BUCKET, "m.json")


def test_a_simple_upload_and_its_description(fake, raw):
    made = json.loads(raw("POST", f"{UPLOAD}?uploadType=media&name=m.json", b"abc", {"Content-Type": "text/x"}).body)
    assert made == json.loads(raw("GET", OBJECT).body)
    assert ("3", "text/x", str(fake.generation(BUCKET, "m.json"))) == tuple(
        made[key] for key in ("size", "contentType", "generation")
    )


def test_an_upload_that_denies_its_own_hash_is_not_stored(fake, raw):
    wrong = {"X-Goog-Hash": "crc32c=AAAAAA=="}
    assert raw("POST", f"{UPLOAD}?uploadType=media&name=m", b"abc", wrong).status == 400
    assert fake.names(BUCKET) == []


def test_a_download_tells_hashes_generation_and_length(fake, raw):
    generation = fake.put(BUCKET, "m.json", b"abc")
    crc32c = base64.b64encode(google_crc32c.value(b"abc").to_bytes(4, "big")).decode()
    md5 = base64.b64encode(hashlib.md5(b"abc").digest()).decode()
    for target in (f"{OBJECT}?alt=media", f"/download{OBJECT}?alt=media"):
        reply = raw("GET", target)
        assert (reply.status, reply.body) == (200, b"abc")
        told = {"X-Goog-Hash": f"crc32c={crc32c},md5={md5}", "X-Goog-Generation": str(generation)}
        told |= {"X-Goog-Stored-Content-Length": "3", "Content-Length": "3"}
        assert told == {name: reply.headers[name] for name in told}
        assert json.loads(raw("GET", OBJECT).body)["etag"] == reply.headers["ETag"]


@pytest.mark.parametrize(
    ("asked", "status", "body", "told"),
    [
        ("bytes=0-2", 206, b"012", "bytes 0-2/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=5-99", 206, b"56789", "bytes 5-9/10"),
        ("bytes=10-", 416, b"The requested range cannot be satisfied.", "bytes */10"),
        ("lines=1-2", 200, b"0123456789", None),
    ],
)
def test_ranges(fake, raw, asked, status, body, told):
    fake.put(BUCKET, "m.json", b"0123456789")
    reply = raw("GET", f"{OBJECT}?alt=media", headers={"Range": asked})
    assert (status, body, told) == (reply.status, reply.body, reply.headers.get("Content-Range"))


def test_the_client_reads_a_range(fake, bucket):
    fake.put(BUCKET, "m", b"0123456789")
    assert bucket.blob("m").download_as_bytes(start=3, end=5) == b"345"


def test_a_listing_is_paged_sorted_and_whole(fake, bucket):
    names = [f"p/{index:02}" for index in range(7)]
    for name in [*reversed(names), "other"]:
        fake.put(BUCKET, name, b"x")
    pages = [[blob.name for blob in page] for page in bucket.list_blobs(prefix="p/", page_size=3).pages]
    assert [names[:3], names[3:6], names[6:]] == pages
    assert names == fake.names(BUCKET, "p/")


@pytest.mark.parametrize("page_size", [1, 2, 1000])
def test_a_delimiter_folds_names_into_prefixes(fake, bucket, page_size):
    for name in ("a/1", "a/2", "b", "c/d/1", "c/e"):
        fake.put(BUCKET, name, b"x")
    listing = bucket.list_blobs(delimiter="/", page_size=page_size)
    assert (["b"], {"a/", "c/"}) == ([blob.name for blob in listing], listing.prefixes)


def test_what_is_missing_is_told_in_the_words_of_the_real_one(bucket, raw):
    reply = raw("GET", OBJECT)
    assert {"error": {"code": 404, "message": NOTHING["message"], "errors": [NOTHING]}} == json.loads(reply.body)
    assert NOTHING["message"].encode() == raw("GET", f"{OBJECT}?alt=media").body
    assert not bucket.blob("m.json").exists()
    with pytest.raises(exceptions.NotFound, match="No such object"):
        bucket.blob("m.json").delete()


def test_a_deleted_object_is_gone(fake, bucket):
    fake.put(BUCKET, "m", b"x")
    bucket.blob("m").delete()
    assert fake.names(BUCKET) == []


@pytest.mark.parametrize(
    ("method", "demand", "status"),
    [
        ("GET", "ifGenerationMatch={}", 200),
        ("GET", "ifGenerationMatch=1", 412),
        ("GET", "ifGenerationNotMatch={}", 304),
        ("GET", "ifGenerationNotMatch=1", 200),
        ("GET", "ifMetagenerationMatch=1", 200),
        ("GET", "ifMetagenerationMatch=2", 412),
        ("GET", "ifMetagenerationNotMatch=1", 304),
        ("GET", "ifGenerationMatch=x", 400),
        ("DELETE", "ifGenerationMatch=1", 412),
        ("DELETE", "ifGenerationMatch={}", 204),
        ("POST", "ifGenerationMatch=0", 412),
        ("POST", "ifGenerationMatch={}", 200),
        ("POST", "ifGenerationNotMatch={}", 304),
    ],
)
def test_preconditions(fake, raw, method, demand, status):
    demand = demand.format(fake.put(BUCKET, "m.json", b"old"))
    upload = f"{UPLOAD}?uploadType=media&name=m.json&{demand}"
    reply = raw(method, upload, b"new") if method == "POST" else raw(method, f"{OBJECT}?alt=media&{demand}")
    assert status == reply.status
    if status >= 300:
        assert fake.get(BUCKET, "m.json") == b"old"
        assert (status == 304) == (reply.body == b"")


def test_of_twenty_racers_exactly_one_creates(fake, bucket):
    start = threading.Barrier(20)

    def race(number: int) -> str:
        blob = bucket.blob("lock")
        start.wait()
        try:
            blob.upload_from_string(str(number), if_generation_match=0)
        except exceptions.PreconditionFailed:
            return "lost"
        return str(number)

    with ThreadPoolExecutor(20) as pool:
        ends = list(pool.map(race, range(20)))
    assert ends.count("lost") == 19
    assert [fake.get(BUCKET, "lock").decode()] == [end for end in ends if end != "lost"]


def test_a_resumable_upload_loses_to_one_that_came_in_between(fake, raw):
    where = raw("POST", f"{UPLOAD}?uploadType=resumable&name=m&ifGenerationMatch=0").headers["Location"]
    fake.put(BUCKET, "m", b"first")
    assert raw("PUT", where, b"second").status == 412
    assert fake.get(BUCKET, "m") == b"first"


def test_an_old_generation_can_be_read_while_versioning_is_on(fake, client):
    fake.create_bucket("kept", versioning=True)
    old, new = fake.put("kept", "m", b"old"), fake.put("kept", "m", b"new")
    kept = client.bucket("kept")
    assert kept.blob("m", generation=old).download_as_bytes() == b"old"
    assert kept.blob("m").download_as_bytes() == b"new"
    assert [old, new] == [blob.generation for blob in kept.list_blobs(versions=True)]
    kept.blob("m").delete()
    assert kept.blob("m", generation=new).download_as_bytes() == b"new"
    assert not kept.blob("m").exists()
    kept.blob("m", generation=old).delete()
    assert [new] == [blob.generation for blob in kept.list_blobs(versions=True)]


def test_without_versioning_an_old_generation_is_gone_and_never_answered_with_new_bytes(fake, bucket):
    old = fake.put(BUCKET, "m", b"old")
    fake.put(BUCKET, "m", b"new")
    with pytest.raises(exceptions.NotFound):
        bucket.blob("m", generation=old).download_as_bytes()


def test_a_bucket_is_made_once(client):
    client.create_bucket("mine", project="p")
    assert client.get_bucket("mine").name == "mine"
    with pytest.raises(exceptions.Conflict):
        client.create_bucket("mine", project="p")
    with pytest.raises(exceptions.NotFound):
        client.get_bucket("yours")


def test_the_storage_layout_is_flat(raw):
    assert json.loads(raw("GET", f"/storage/v1/b/{BUCKET}/storageLayout").body)["hierarchicalNamespace"] == {
        "enabled": False
    }


@pytest.mark.parametrize("target", ["/", OBJECT + "/compose", f"/storage/v1/b/{BUCKET}/o?matchGlob=a*"])
def test_what_the_fake_does_not_know_it_refuses(raw, target):
    assert raw("GET", target).status == 501


def test_requests_are_logged(fake, bucket):
    fake.put(BUCKET, "a/m.json", b"0123")
    bucket.blob("a/m.json").download_as_bytes(start=1)
    (one,) = fake.seen("media", "m.json")
    assert (one.method, one.status, one.headers["range"], one.fault) == ("GET", 206, "bytes=1-", None)
    assert f"/download/storage/v1/b/{BUCKET}/o/a/m.json" == one.path


def test_a_client_made_by_the_fake_needs_no_environment():
    with FakeStorage() as fake, fake.client() as client:
        assert isinstance(client, storage.Client)
        fake.put(BUCKET, "m", b"x")
        fake.faults.add(Fault("status", op="bucket"))
        assert client.bucket(BUCKET).blob("m").download_as_bytes() == b"x"
