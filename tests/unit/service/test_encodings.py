"""Compressed bodies: undone within the limit and to the last byte, or refused in our words."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service import encodings
from service.answer import Answerer
from service.config import Settings
from service.errors import AmbiguousBody, BodyTooLarge, MalformedBody, UnsupportedMediaType
from tests.unit.service.calls import ADELIE, ask, codes, encode, read

# bodies; raise it for a long run
EXAMPLES = 200
LIMIT = 1 << 20
BODY = encode({"instances": [ADELIE] * 100})


def bare(body: bytes) -> bytes:
    """Deflate without any frame, as some clients send it."""
    return zlib.compress(body, wbits=-15)


WAYS = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "gzip in capitals": ("GZip", gzip.compress),
    "gzip among empty list members": (" , gzip,", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "deflate without a frame": ("deflate", bare),
    "deflate in a small window": ("deflate", lambda body: zlib.compress(body, wbits=9)),
    "deflate, stored": ("deflate", lambda body: zlib.compress(body, 0)),
    "deflate without a frame, stored": ("deflate", lambda body: zlib.compress(body, 0, -15)),
    "identity": ("identity", bytes),
    "identity in capitals": ("Identity", bytes),
    "nothing named": (",", bytes),
}


@pytest.mark.parametrize(("header", "compress"), WAYS.values(), ids=WAYS.keys())
def test_a_compressed_body_is_answered_like_the_plain_one(answerer, header, compress):
    assert read(ask(answerer, BODY)) == read(ask(answerer, compress(BODY), content_encoding=header))


@pytest.mark.parametrize(("header", "compress"), WAYS.values(), ids=WAYS.keys())
@given(seed=st.integers(0, 2**63), level=st.sampled_from([1, 256]))
@settings(max_examples=EXAMPLES // 10, derandomize=True, deadline=None)
def test_any_bytes_come_back_whole(header, compress, seed, level):
    chance = Random(seed)
    # bytes that repeat and bytes that do not, of sizes around those of the pieces
    size = chance.choice((0, 1, chance.randrange(100), encodings.PIECE_BYTES, chance.randrange(LIMIT)))
    body = chance.randbytes(-(-size // level)) * level
    assert body[:size] == encodings.decoded(compress(body[:size]), header, LIMIT)


@pytest.mark.parametrize(
    "header", ["br", "zstd", "compress", "gzip, gzip", "identity, gzip", "deflate,br", "*", '"gzip"']
)
def test_another_coding_or_several_are_refused_with_those_that_are_taken(answerer, header):
    reply = ask(answerer, ADELIE, content_encoding=header)
    assert (reply.status, read(reply)["type"]) == (415, "urn:rookery:problem:unsupported-media-type")
    assert dict(reply.headers)["Accept-Encoding"] == "gzip, deflate, identity"
    with pytest.raises(UnsupportedMediaType):
        encodings.decoded(b"", header, LIMIT)


FRAMED = gzip.compress(BODY, mtime=0)
FALSE = {
    "plain, said to be gzip": ("gzip", BODY),
    "plain, said to be deflate": ("deflate", BODY),
    "zlib, said to be gzip": ("gzip", zlib.compress(BODY)),
    "gzip, said to be deflate": ("deflate", FRAMED),
    "nothing, said to be gzip": ("gzip", b""),
    "nothing, said to be deflate": ("deflate", b""),
    "one byte": ("deflate", b"x"),
    "a gzip header alone": ("gzip", FRAMED[:10]),
    "gzip without its last byte": ("gzip", FRAMED[:-1]),
    "gzip without its trailer": ("gzip", FRAMED[:-8]),
    "half of gzip": ("gzip", FRAMED[: len(FRAMED) // 2]),
    "deflate without its last byte": ("deflate", zlib.compress(BODY)[:-1]),
    "bare deflate without its last byte": ("deflate", bare(BODY)[:-1]),
    "a wrong checksum": ("gzip", FRAMED[:-8] + bytes([FRAMED[-8] ^ 1]) + FRAMED[-7:]),
    "a wrong length": ("gzip", FRAMED[:-1] + b"\x01"),
    "a wrong Adler sum": ("deflate", zlib.compress(BODY)[:-1] + b"?"),
    "a dictionary nobody has": ("deflate", b"\x78\xbb" + b"\x00" * 4 + bare(BODY)),
    "a reserved kind of block": ("deflate", b"\x07" * 100),
}


@pytest.mark.parametrize(("header", "body"), FALSE.values(), ids=FALSE.keys())
def test_a_false_or_damaged_encoding_is_malformed(answerer, header, body):
    reply = ask(answerer, body, content_encoding=header)
    assert (reply.status, codes(reply)) == (400, [("", "malformed")])
    with pytest.raises(MalformedBody):
        encodings.decoded(body, header, LIMIT)


FOLLOWED = {
    "another gzip member": ("gzip", FRAMED + FRAMED),
    "an empty gzip member": ("gzip", FRAMED + gzip.compress(b"")),
    "a byte after gzip": ("gzip", FRAMED + b"\x00"),
    "a line end after deflate": ("deflate", zlib.compress(BODY) + b"\n"),
    "more after bare deflate": ("deflate", bare(BODY) + b"}"),
    "a megabyte after gzip": ("gzip", FRAMED + b"x" * LIMIT),
    "more, where a piece ends": ("gzip", gzip.compress(b"", mtime=0).ljust(encodings.PIECE_BYTES * 2, b"\x00")),
}


@pytest.mark.parametrize(("header", "body"), FOLLOWED.values(), ids=FOLLOWED.keys())
def test_what_follows_the_compressed_data_is_ambiguous(answerer, header, body):
    reply = ask(answerer, body, content_encoding=header)
    assert (reply.status, codes(reply)) == (400, [("", "ambiguous")])
    with pytest.raises(AmbiguousBody):
        encodings.decoded(body, header, LIMIT)


def test_every_cut_and_every_flipped_bit_of_gzip_is_refused_or_changes_nothing():
    frame = gzip.compress(encode(ADELIE), mtime=0)
    changed = [frame[:end] for end in range(len(frame))]
    changed += [
        frame[:i] + bytes([frame[i] ^ 1 << bit]) + frame[i + 1 :] for i in range(len(frame)) for bit in range(8)
    ]
    read_back = set()
    for body in changed:
        try:
            read_back.add(encodings.decoded(body, "gzip", LIMIT))
        except (MalformedBody, AmbiguousBody):
            continue
    # the time, the system and the hint about speed in the header mean nothing to the body
    assert {encode(ADELIE)} == read_back


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress, bare], ids=["gzip", "zlib", "bare"])
@pytest.mark.parametrize("limit", [1, 100, encodings.PIECE_BYTES, encodings.PIECE_BYTES * 3, LIMIT])
def test_the_limit_holds_to_the_byte(compress, limit):
    header = "gzip" if compress is gzip.compress else "deflate"
    assert b" " * limit == encodings.decoded(compress(b" " * limit), header, limit)
    with pytest.raises(BodyTooLarge) as refused:
        encodings.decoded(compress(b" " * (limit + 1)), header, limit)
    assert [(p.code, p.message) for p in refused.value.problems] == [
        ("body_too_large", f"at most {limit} bytes are taken, decompressed")
    ]


def bomb(size: int) -> bytes:
    """Compress that many zeros without ever having them."""
    stream = zlib.compressobj(9, wbits=31)
    return b"".join(stream.compress(bytes(1 << 20)) for _ in range(size >> 20)) + stream.flush()


def test_a_bomb_costs_no_memory_and_is_not_read_to_its_end(answerer):
    body = bomb(256 << 20)
    tracemalloc.start()
    try:
        reply = ask(answerer, body, content_encoding="gzip")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (reply.status, codes(reply)) == (413, [("", "body_too_large")])
    assert peak < 256 << 10


def test_a_body_that_is_too_large_as_it_came_is_refused_before_it_is_decompressed(answerer):
    small = Answerer(answerer.state, replace(Settings(), max_body_bytes=1024))
    reply = ask(small, gzip.compress(Random(1).randbytes(2000)), content_encoding="gzip")
    assert [m["message"] for m in read(reply)["errors"]] == ["at most 1024 bytes are taken"]


@given(
    st.binary(max_size=80),
    st.sampled_from(["gzip", "deflate"]),
    st.sampled_from([b"", b"\x1f\x8b\x08\x00", b"\x78\x9c"]),
)
@settings(max_examples=EXAMPLES, derandomize=True, deadline=None)
def test_no_bytes_raise_anything_but_a_refusal(body, header, start):
    try:
        found = encodings.decoded(start + body, header, 100)
    except (MalformedBody, AmbiguousBody, BodyTooLarge):
        return
    assert len(found) <= 100
