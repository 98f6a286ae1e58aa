"""What comes out of the bucket is right, in time, or refused with a reason; nothing in it is ever overwritten."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial

import pytest

from model.errors import BundleError
from model.store import Address, Bucket, Deadline, in_parallel, is_address, parse
from tests.fakes.gcs import FakeStorage, Fault
from tests.fakes.gcs import fake_storage as fake_storage
from tests.unit.model.conftest import no_thread_left

RIGHT = b"0123456789" * 20_000
DIGEST = "ab" * 32


@pytest.fixture
def bucket(fake_storage: FakeStorage) -> Iterator[Bucket]:
    fake_storage.put("models", "penguins/model.json", RIGHT)
    with fake_storage.client() as client, no_thread_left(fake_storage):
        yield Bucket(parse("gs://models/penguins"), client)


def is_right(payload: bytes) -> None:
    if payload != RIGHT:
        raise BundleError("hash_mismatch", f"{len(payload)} bytes")


def read(bucket: Bucket, file: str = "model.json", seconds: float = 30, limit: int = len(RIGHT)) -> bytes:
    return bucket.read(file, limit, Deadline(seconds), is_right)


def code_of(call) -> str:
    with pytest.raises(BundleError) as caught:
        call()
    return caught.value.code


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


ADDRESSES = {
    "bucket": ("gs://models", Address("models", ""), "gs://models/"),
    "bucket and slash": ("gs://models/", Address("models", ""), "gs://models/"),
    "prefix": ("gs://models/penguins", Address("models", "penguins"), "gs://models/penguins/"),
    "slash at the end": ("gs://models/a/b/", Address("models", "a/b"), "gs://models/a/b/"),
    "dots in names": ("gs://my.models_1/a.b", Address("my.models_1", "a.b"), "gs://my.models_1/a.b/"),
    "digest": (f"gs://models/a/{DIGEST}/", Address("models", f"a/{DIGEST}"), f"gs://models/a/{DIGEST}/"),
}


@pytest.mark.parametrize(("uri", "address", "text"), ADDRESSES.values(), ids=ADDRESSES)
def test_address_is_bucket_and_prefix(uri, address, text):
    found = parse(uri)

    assert found == address
    assert str(found) == text
    assert parse(str(found)) == found
    assert is_address(uri)


NO_ADDRESSES = (
    *("", "models", "/srv/models", "s3://models/a", "http://models/a", "gs:/models", "gs:models", "GS://models/a"),
    *("gs://", "gs:///a", "gs://m", "gs://UPPER/a", "gs://-models/a", "gs://models-/a", "gs://me@models/a"),
    *("gs://models:80/a", "gs://[models/a", "gs://models/a?b=c", "gs://models/a?", "gs://models/a#b", "gs://models/#"),
    *("gs://models/../a", "gs://models/a/./b", "gs://models/a//b", "gs://models/..", "gs://mo\ndels/a"),
    *("gs://models/a\r\nb", "gs://models/a\x00", "gs://models/\t", "gs://modèles/a"),
)


@pytest.mark.parametrize("uri", NO_ADDRESSES, ids=repr)
def test_anything_else_is_no_address(uri):
    with pytest.raises(BundleError, match="is not an address such as gs://bucket/models/penguins") as caught:
        parse(uri)

    assert caught.value.code == "store_address"


@pytest.mark.parametrize("uri", ["bundles/penguins", "/gs://models", "s3://models"])
def test_what_is_not_meant_for_the_store_is_a_path(uri):
    assert not is_address(uri)


def test_address_names_its_objects_and_its_digest():
    assert Address("models", "").object_name("a.json") == "a.json"
    assert Address("models", "x").object_name("a.json") == "x/a.json"
    assert Address("models", "x").child(DIGEST) == Address("models", f"x/{DIGEST}")
    assert parse(f"gs://models/x/{DIGEST}").digest == f"sha256:{DIGEST}"
    assert parse(f"gs://models/{DIGEST}").digest == f"sha256:{DIGEST}"


@pytest.mark.parametrize("last", ["penguins", DIGEST[1:], DIGEST.upper(), f"{DIGEST}/x"])
def test_other_names_are_no_digest(last):
    assert parse(f"gs://models/{last}").digest is None


def test_deadline_ends_when_its_time_is_over():
    clock = Clock()
    deadline = Deadline(8, clock)
    assert deadline.remaining() == 8
    clock.now += 7.5
    deadline.check()
    assert deadline.remaining() == 0.5
    clock.now += 1

    with pytest.raises(BundleError, match="did not arrive within 8 seconds") as caught:
        deadline.check()

    assert deadline.remaining() == 0
    assert caught.value.code == "fetch_timeout"


def test_object_is_read(bucket: Bucket, fake_storage: FakeStorage):
    assert read(bucket) == RIGHT
    assert [one.name for one in fake_storage.seen("media")] == ["penguins/model.json"]


PASSING = {
    **{str(status): [Fault("status", status=status)] for status in (408, 429, 500, 502, 503, 504)},
    "twice 503": [Fault("status", times=2)],
    "five times 503": [Fault("status", times=5)],
    "reset": [Fault("reset", op="media")],
    "reset midway": [Fault("reset", op="media", at=70_000)],
    "cut short": [Fault("truncate", at=100)],
    "cut short without a length": [Fault("truncate", at=100, chunked=True)],
    "cut short with a fitting length": [Fault("truncate", at=100, declared=100)],
    "flipped bit": [Fault("flip", at=99_999, bit=3)],
    "flipped bit with a fitting hash": [Fault("flip", at=5, hash="sent")],
    "log-in page": [Fault("replace")],
    "empty": [Fault("replace", content=b"", hash="sent")],
    "wrong hash told": [Fault("hash")],
    "no hash told": [Fault("hash", hash="absent")],
    "length told too long": [Fault("length", declared=len(RIGHT) + 10, times=1)],
    "one thing after the other": [Fault("status"), Fault("reset", op="media"), Fault("flip", at=1), Fault("replace")],
}


@pytest.mark.parametrize("faults", PASSING.values(), ids=PASSING)
def test_passing_trouble_is_tried_again_until_the_bytes_are_right(bucket: Bucket, fake_storage: FakeStorage, faults):
    fake_storage.faults.add(*faults)

    assert read(bucket, seconds=60) == RIGHT
    assert fake_storage.faults.waiting == ()


def test_wrong_bytes_three_times_are_final(bucket: Bucket, fake_storage: FakeStorage):
    fake_storage.faults.add(Fault("flip", at=5, times=None))

    assert code_of(partial(read, bucket)) == "hash_mismatch"
    assert len(fake_storage.seen("media")) == 3


def test_wrong_bytes_are_counted_apart_from_other_trouble(bucket: Bucket, fake_storage: FakeStorage):
    wrong = Fault("flip", at=5)
    fake_storage.faults.add(wrong, Fault("status"), wrong, Fault("status"))

    assert read(bucket) == RIGHT
    assert len(fake_storage.seen("media")) == 5


FINAL = {
    "400": (400, "store_unreachable", "could not be reached: BadRequest 400"),
    "401": (401, "store_forbidden", "grant roles/storage.objectViewer"),
    "403": (403, "store_forbidden", "grant roles/storage.objectViewer"),
    "404": (404, "object_missing", "gs://models/penguins/model.json does not exist"),
    "412": (412, "store_unreachable", "PreconditionFailed 412"),
}


@pytest.mark.parametrize(("status", "code", "reason"), FINAL.values(), ids=FINAL)
def test_refusal_is_final_and_has_a_reason(bucket: Bucket, fake_storage: FakeStorage, status, code, reason):
    fake_storage.faults.add(Fault("status", status=status, times=None))

    with pytest.raises(BundleError, match=reason) as caught:
        read(bucket)

    assert caught.value.code == code
    assert len(fake_storage.seen("media")) <= 3  # with 401 the client asks for a new token twice


@pytest.mark.parametrize("uri", ["gs://models/penguins", "gs://nobody/penguins"], ids=["object", "bucket"])
def test_what_is_not_there_is_missing(fake_storage: FakeStorage, uri):
    fake_storage.create_bucket("models")
    with fake_storage.client() as client:
        assert code_of(partial(read, Bucket(parse(uri), client))) == "object_missing"


def test_trouble_that_does_not_pass_ends_with_the_deadline(bucket: Bucket, fake_storage: FakeStorage):
    fake_storage.faults.add(Fault("status", times=None))

    # as below
    with pytest.raises(BundleError, match="ServiceUnavailable 503") as caught:
        bucket.read("model.json", len(RIGHT), Deadline(0.5, Clock()), is_right)

    assert caught.value.code == "store_unreachable"


def test_nobody_there_is_unreachable(fake_storage: FakeStorage):
    with fake_storage.client() as client:
        bucket = Bucket(parse("gs://models/penguins"), client)
        fake_storage.stop()

        # a clock that stands still: some pause will be too long, however slow the machine is
        with pytest.raises(BundleError, match="ConnectionError") as caught:
            bucket.read("model.json", len(RIGHT), Deadline(0.5, Clock()), is_right)

    assert caught.value.code == "store_unreachable"


def test_no_time_is_no_request(bucket: Bucket, fake_storage: FakeStorage):
    assert code_of(partial(read, bucket, seconds=0)) == "fetch_timeout"
    assert fake_storage.requests == ()


ENDLESS = {"no length": {}, "chunked": {"chunked": True}, "declared": {"declared": 10**10}}


@pytest.mark.parametrize("framing", ENDLESS.values(), ids=ENDLESS)
def test_endless_data_is_cut_off_at_the_cap(bucket: Bucket, fake_storage: FakeStorage, framing):
    fake_storage.faults.add(Fault("endless", times=None, **framing))

    with pytest.raises(BundleError, match=f"longer than the {len(RIGHT)} bytes") as caught:
        read(bucket)

    assert caught.value.code == "endless_data"
    assert len(fake_storage.seen("media")) == 1


@pytest.mark.parametrize(("limit", "code"), [(len(RIGHT), None), (len(RIGHT) - 1, "endless_data")], ids=["at", "over"])
def test_cap_is_the_last_byte(bucket: Bucket, limit, code):
    if code is None:
        assert read(bucket, limit=limit) == RIGHT
    else:
        assert code_of(partial(read, bucket, limit=limit)) == code


SLOW = {
    "stall at once": Fault("stall", at=0, times=None),
    "stall midway": Fault("stall", at=70_000, times=None),
    "no answer": Fault("slow-start", op="media", seconds=60, times=None),
    "drip": Fault("drip", at=70_000, seconds=0.05, times=None),
}


@pytest.mark.parametrize("fault", SLOW.values(), ids=SLOW)
def test_slow_retrieval_ends_with_the_deadline(bucket: Bucket, fake_storage: FakeStorage, fault):
    fake_storage.faults.add(fault)
    deadline = Deadline(0.6)
    job = partial(bucket.read, "model.json", len(RIGHT), deadline, is_right)

    assert code_of(lambda: in_parallel({"model.json": job}, deadline)) == "fetch_timeout"


def test_stall_is_a_timeout_without_a_thread_too(bucket: Bucket, fake_storage: FakeStorage):
    fake_storage.faults.add(Fault("stall", at=10, times=None))

    assert code_of(partial(read, bucket, seconds=0.5)) == "fetch_timeout"


def test_time_over_counts_more_than_wrong_bytes(bucket: Bucket):
    clock = Clock()

    def late(_: bytes) -> None:
        clock.now += 100
        raise BundleError("hash_mismatch", "too late")

    assert code_of(lambda: bucket.read("model.json", len(RIGHT), Deadline(8, clock), late)) == "fetch_timeout"


def test_jobs_run_at_once_and_keep_their_names():
    barrier = threading.Barrier(3)
    jobs = {name: partial(lambda name: (barrier.wait(10), name)[1], name) for name in "abc"}

    assert in_parallel(jobs, Deadline(30)) == {"a": "a", "b": "b", "c": "c"}


def test_error_of_a_job_is_raised():
    def fail() -> None:
        raise BundleError("object_missing", "x")

    assert code_of(lambda: in_parallel({"a": lambda: None, "b": fail}, Deadline(30))) == "object_missing"


def test_job_that_never_ends_is_left_behind():
    release = threading.Event()

    found = code_of(lambda: in_parallel({"a": partial(release.wait, 60)}, Deadline(0.1)))

    release.set()
    assert found == "fetch_timeout"


def test_upload_creates_the_object(bucket: Bucket, fake_storage: FakeStorage):
    assert bucket.create("new.json", b"{}")
    assert bucket.create("new.onnx", b"\x00")

    assert fake_storage.get("models", "penguins/new.json") == b"{}"
    assert fake_storage.names("models") == ["penguins/model.json", "penguins/new.json", "penguins/new.onnx"]
    assert [one.query["ifGenerationMatch"] for one in fake_storage.seen("insert")] == ["0", "0"]


def test_the_same_object_again_is_a_success(bucket: Bucket, fake_storage: FakeStorage):
    before = fake_storage.generation("models", "penguins/model.json")

    assert not bucket.create("model.json", RIGHT)

    assert fake_storage.generation("models", "penguins/model.json") == before


OTHERS = {"other bytes": RIGHT[:-1] + b"?", "shorter": RIGHT[:-1], "longer": RIGHT + b"?", "much longer": RIGHT * 2}


@pytest.mark.parametrize("there", OTHERS.values(), ids=OTHERS)
def test_another_object_of_the_name_is_not_overwritten(bucket: Bucket, fake_storage: FakeStorage, there):
    fake_storage.put("models", "penguins/other", there)

    with pytest.raises(BundleError, match="penguins/other exists with other content") as caught:
        bucket.create("other", RIGHT)

    assert caught.value.code == "object_differs"
    assert fake_storage.get("models", "penguins/other") == there


def test_comparison_survives_damage_on_the_way(bucket: Bucket, fake_storage: FakeStorage):
    fake_storage.faults.add(Fault("flip", at=5))

    assert not bucket.create("model.json", RIGHT)


def test_comparison_that_may_not_be_made_says_so(bucket: Bucket, fake_storage: FakeStorage):
    fake_storage.faults.add(Fault("status", status=403, op="media"))

    assert code_of(lambda: bucket.create("model.json", RIGHT)) == "store_forbidden"


@pytest.mark.parametrize("kind", ["status", "reset"])
def test_upload_whose_answer_is_lost_is_a_success(bucket: Bucket, fake_storage: FakeStorage, kind):
    fake_storage.faults.add(Fault(kind, op="insert", after=True))

    assert not bucket.create("new.json", b"{}")

    assert fake_storage.get("models", "penguins/new.json") == b"{}"
    assert len(fake_storage.seen("insert")) == 2


def test_passing_trouble_while_uploading_is_tried_again(bucket: Bucket, fake_storage: FakeStorage):
    fake_storage.faults.add(Fault("status", op="insert"))

    assert bucket.create("new.json", b"{}")


@pytest.mark.parametrize(("status", "code"), [(403, "store_forbidden"), (400, "store_unreachable")], ids=str)
def test_refused_upload_has_a_reason(bucket: Bucket, fake_storage: FakeStorage, status, code):
    fake_storage.faults.add(Fault("status", op="insert", status=status))

    assert code_of(lambda: bucket.create("new.json", b"{}")) == code
    assert fake_storage.names("models") == ["penguins/model.json"]


def test_folders_are_those_directly_below(bucket: Bucket, fake_storage: FakeStorage):
    for name in ("penguins/b/x", "penguins/a/x", "penguins/a/deep/y", "penguinsX/c/x", "other/d/x"):
        fake_storage.put("models", name, b"")
    with fake_storage.client() as client:
        assert bucket.folders() == ["a", "b"]
        assert bucket.child("a").folders() == ["deep"]
        assert Bucket(parse("gs://models"), client).folders() == ["other", "penguins", "penguinsX"]


def test_listing_that_is_refused_has_a_reason(bucket: Bucket, fake_storage: FakeStorage):
    fake_storage.faults.add(Fault("status", status=403, op="list"))

    assert code_of(bucket.folders) == "store_forbidden"


def test_client_is_prepared_once_for_many_buckets(bucket: Bucket):
    hooks = len(bucket._client._http.hooks["response"])

    for name in ("a", "b"):
        bucket.child(name)

    assert len(bucket._client._http.hooks["response"]) == hooks


def test_missing_credentials_are_named(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)

    with pytest.raises(
        BundleError, match=r"\); run: gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS$"
    ) as caught:
        Bucket(parse("gs://models"))

    assert caught.value.code == "store_credentials"
