"""Compressed request bodies: undone within the limit, or refused (RFC 9110, section 8.4)."""

from __future__ import annotations

import zlib
from typing import NoReturn

from service.errors import AmbiguousBody, BodyTooLarge, MalformedBody, Problem, UnsupportedMediaType, echo

IDENTITY = "identity"
TAKEN = ("gzip", "deflate", IDENTITY)
ALIASES = {"x-gzip": "gzip"}

# window bits, as zlib takes them: 15 is the largest window, 16 more is gzip's frame, less than none is no frame
GZIP, ZLIB, RAW = 31, 15, -15

# so much of the input, and of the output, is looked at together while the size is counted
PIECE_BYTES = 16 << 10


def coding(header: str) -> str:
    """Return the one coding that a Content-Encoding names, in lower case.

    Raises:
        UnsupportedMediaType: it is not taken, or there are several; the refusal names those that are taken.
    """
    named = [name for name in (part.strip().lower() for part in header.split(",")) if name] or [IDENTITY]
    found = ALIASES.get(named[0], named[0])
    if len(named) > 1 or found not in TAKEN:
        detail = f"content encoding {echo(header)!r} is not taken; send the body plain, or one of gzip and deflate"
        raise UnsupportedMediaType(detail=detail, headers=(("Accept-Encoding", ", ".join(TAKEN)),))
    return found


def decoded(body: bytes, header: str, limit_bytes: int) -> bytes:
    """Undo the coding of a body.

    The size is counted first, and nothing kept: a body that grows over the limit costs time up to there and no memory.

    Args:
        body: as it came.
        header: the value of Content-Encoding, which `coding` has passed.
        limit_bytes: what the plain body may have.

    Raises:
        MalformedBody: it is not what the header says, is cut off, or its checksum is wrong.
        AmbiguousBody: something follows the compressed data: another gzip member, which not everybody would read.
        BodyTooLarge: it is over the limit.
    """
    name = coding(header)
    if name == IDENTITY:
        return body
    bits = GZIP if name == "gzip" else ZLIB if _has_zlib_frame(body) else RAW
    try:
        size = _size(body, bits, limit_bytes)
        return zlib.decompress(body, bits, max(size, 1))
    except zlib.error:
        _malformed(f"is not {name}, although Content-Encoding says so, or is damaged")


def too_large(limit_bytes: int) -> BodyTooLarge:
    """Return the refusal of a body that is over the limit once it is plain."""
    return BodyTooLarge([Problem("", "body_too_large", f"at most {limit_bytes} bytes are taken, decompressed")])


def _has_zlib_frame(body: bytes) -> bool:
    """Whether a body begins as RFC 1950 has it; HTTP's deflate means that, some clients send it without the frame.

    No encoder begins a bare stream so: it would be a stored block padded with something else than zeros.
    """
    return len(body) > 1 and body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0


def _size(body: bytes, bits: int, limit_bytes: int) -> int:
    """Return the size of the plain body, decompressing piece by piece.

    Raises:
        zlib.error: it cannot be decompressed.
    """
    stream, size, read = zlib.decompressobj(bits), 0, 0
    while not stream.eof:
        # what the last piece left over comes first; without any input, the rest that zlib still holds
        piece = stream.unconsumed_tail or body[read : (read := read + PIECE_BYTES)]
        found = len(stream.decompress(piece, PIECE_BYTES))
        size += found
        if size > limit_bytes:
            raise too_large(limit_bytes)
        if not piece and not found and not stream.eof:
            _malformed("is cut off: the compressed data has no end")
    if stream.unused_data or read < len(body):
        raise AmbiguousBody([Problem("", "ambiguous", "goes on after the end of the compressed data")])
    return size


def _malformed(message: str) -> NoReturn:
    """Raise the refusal."""
    raise MalformedBody([Problem("", "malformed", message)], detail="The body is not what its Content-Encoding says")
