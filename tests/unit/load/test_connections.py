from __future__ import annotations

import pytest

from load.connections import parse_reply, request_bytes

REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\nhello"


@pytest.mark.parametrize("size", range(len(REPLY)))
def test_reply_is_awaited_to_its_last_byte(size: int):
    assert parse_reply(REPLY[:size]) is None


def test_complete_reply():
    assert parse_reply(REPLY) == (200, len(REPLY), False)


def test_end_of_the_connection_is_read_in_any_case_of_letters():
    assert parse_reply(b"HTTP/1.1 503 Busy\r\nCONNECTION: Close\r\ncontent-length: 0\r\n\r\n") == (503, 59, True)


def test_reply_without_a_length_is_refused():
    with pytest.raises(ValueError, match="without Content-Length"):
        parse_reply(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")


def test_request_is_exact():
    assert request_bytes("h:1", "/p?q", b"{}", [("A", "b")]) == (
        b"POST /p?q HTTP/1.1\r\nHost: h:1\r\nContent-Type: application/json\r\nContent-Length: 2\r\nA: b\r\n\r\n{}"
    )
