"""The queue of faults: whom they meet, how often, and what is no fault at all."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fakes.gcs import FakeStorage, Fault
from tests.unit.fakes.conftest import BUCKET, CONTENT

MEDIA = f"/download/storage/v1/b/{BUCKET}/o/m.json?alt=media"
METADATA = f"/storage/v1/b/{BUCKET}/o/m.json"
UPLOAD = f"/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name=m.json"


def test_a_fault_meets_only_what_it_is_meant_for(fake, faults, raw):
    faults.add(
        Fault("status", match=re.compile(r"^other/\d+$")),
        Fault("status", match="m.json", method="DELETE"),
        Fault("status", match="m.json", op="list"),
        Fault("flip", match="nothing"),
    )
    assert raw("GET", METADATA).status == 200
    assert raw("GET", MEDIA).body == CONTENT
    assert raw("GET", f"/storage/v1/b/{BUCKET}").status == 200
    fake.put(BUCKET, "other/12", b"x")
    assert raw("GET", f"/storage/v1/b/{BUCKET}/o/other%2F12").status == 503
    assert raw("DELETE", METADATA).status == 503
    assert [one.kind for one in faults.waiting] == ["status", "flip"]
    faults.clear()
    assert raw("GET", f"/storage/v1/b/{BUCKET}/o?prefix=m.json").status == 200


def test_faults_are_used_up_one_request_each_however_many_come_at_once(faults, raw):
    faults.add(Fault("status", times=7))
    with ThreadPoolExecutor(10) as pool:
        statuses = [reply.status for reply in pool.map(lambda _: raw("GET", METADATA), range(20))]
    assert (statuses.count(503), statuses.count(200)) == (7, 13)


def test_a_fault_without_end_stays(faults, raw):
    faults.add(Fault("status", times=None))
    assert [raw("GET", METADATA).status for _ in range(3)] == [503] * 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "gremlin"},
        {"kind": "hash", "hash": "x"},
        {"kind": "size"},
        {"kind": "flip", "op": "x"},
        {"kind": "flip", "times": 0},
    ],
    ids=["kind", "hash", "size", "op", "times"],
)
def test_a_fault_that_would_do_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match=r"unknown|needs|times"):
        Fault(**wrong)


def test_a_fake_that_breaks_says_so():
    fake = FakeStorage()
    with fake:
        fake.put(BUCKET, "m.json", b"")
        fake.faults.add(Fault("flip", at=5))
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", fake.port, timeout=10)) as connection:
            connection.request("GET", MEDIA)
            with pytest.raises(ConnectionError):
                connection.getresponse()
        with pytest.raises(RuntimeError, match="the fake itself broke"):
            fake.stop()


def test_half_an_upload_is_not_stored(fake):
    with socket.create_connection(("127.0.0.1", fake.port), timeout=10) as client:
        client.sendall(f"POST {UPLOAD} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345".encode())
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
    assert fake.names(BUCKET) == []
