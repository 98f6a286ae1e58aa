"""Buckets of the fake Cloud Storage: what is stored, in which generations, and what a listing shows.

Rules after Cloud Storage's page "Object Versioning": a generation names one content for ever. One lock guards a store,
so of N racers with `ifGenerationMatch=0` exactly one wins.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tests.fakes.gcs_stored import NO_DEMANDS, Preconditions, Refused, Stored, integer

FIRST_GENERATION = 1_700_000_000_000_000  # like the real ones: microseconds since 1970
MAX_RESULTS = 1000


@dataclass
class _Bucket:
    name: str
    versioning: bool
    live: dict[str, Stored] = field(default_factory=dict)
    old: dict[tuple[str, int], Stored] = field(default_factory=dict)

    def retire(self, name: str) -> None:
        """Take the live generation away; with versioning it can still be read by its number."""
        before = self.live.pop(name, None)
        if before is not None and self.versioning:
            self.old[name, before.generation] = before


@dataclass(frozen=True)
class Page:
    """One page of a listing; `token` is None on the last."""

    items: tuple[Stored, ...]
    prefixes: tuple[str, ...]
    token: str | None


class Store:
    """All buckets, behind one lock."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._buckets: dict[str, _Bucket] = {}
        self._last_generation = FIRST_GENERATION

    def create(self, name: str, *, versioning: bool) -> None:
        """Make a bucket.

        Raises:
            Refused: 409, it exists.
        """
        with self._lock:
            if name in self._buckets:
                raise Refused(409, "Your previous request to create the named bucket succeeded and you already own it.")
            self._buckets[name] = _Bucket(name, versioning)

    def versioning(self, bucket: str) -> bool:
        """Tell whether a bucket keeps old generations.

        Raises:
            Refused: 404, there is no such bucket.
        """
        with self._lock:
            return self._bucket(bucket).versioning

    def insert(
        self,
        bucket: str,
        name: str,
        content: bytes,
        *,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
        demands: Preconditions = NO_DEMANDS,
    ) -> Stored:
        """Write an object as one step: the demands are checked and the content stored under one lock.

        Raises:
            Refused: 404 no such bucket; 412 or 304 a demand fails.
        """
        with self._lock:
            home = self._bucket(bucket)
            demands.check(home.live.get(name))
            home.retire(name)
            self._last_generation += 1
            made = Stored(bucket, name, content, self._last_generation, content_type, dict(metadata or {}))
            home.live[name] = made
            return made

    def check(self, bucket: str, name: str, demands: Preconditions) -> None:
        """Hold demands against the live object, present or absent; raises like `insert`."""
        with self._lock:
            demands.check(self._bucket(bucket).live.get(name))

    def find(
        self, bucket: str, name: str, generation: int | None = None, demands: Preconditions = NO_DEMANDS
    ) -> Stored:
        """Read the live object, or the generation asked for.

        Raises:
            Refused: 404 no such bucket, object or generation; 412 or 304 a demand fails.
        """
        with self._lock:
            home = self._bucket(bucket)
            found = home.live.get(name)
            if generation is not None and (found is None or found.generation != generation):
                found = home.old.get((name, generation))
            if found is None:
                raise Refused(404, f"No such object: {bucket}/{name}" + (f"#{generation}" if generation else ""))
            demands.check(found)
            return found

    def delete(
        self, bucket: str, name: str, generation: int | None = None, demands: Preconditions = NO_DEMANDS
    ) -> None:
        """Remove the live object, or one generation for good; raises like `find`."""
        with self._lock:
            found = self.find(bucket, name, generation, demands)
            home = self._bucket(bucket)
            if generation is None:
                home.retire(name)
            elif home.live.get(name) is found:
                del home.live[name]
            else:
                del home.old[name, generation]

    def page(self, bucket: str, query: Mapping[str, str]) -> Page:
        """List in the order of UTF-8 bytes: prefix, delimiter, startOffset, endOffset, versions, maxResults, pageToken.

        Raises:
            Refused: 404 no such bucket; 400 a parameter is malformed.
        """
        most = integer(query, "maxResults")
        most = MAX_RESULTS if most is None else min(most, MAX_RESULTS)
        if most < 1:
            raise Refused(400, f"Invalid value for maxResults: {most}")
        with self._lock:
            entries = sorted(self._entries(self._bucket(bucket), query).items())
        after = _decode(query["pageToken"]) if query.get("pageToken") else None
        rest = [entry for entry in entries if after is None or entry[0] > after]
        shown = rest[:most]
        return Page(
            tuple(value for _, value in shown if isinstance(value, Stored)),
            tuple(value for _, value in shown if isinstance(value, str)),
            _encode(shown[-1][0]) if len(rest) > most else None,
        )

    def names(self, bucket: str, prefix: str = "") -> list[str]:
        """List all live names that begin with a prefix, sorted; 404 like `page`, but never cut."""
        with self._lock:
            return sorted(name for name in self._bucket(bucket).live if name.startswith(prefix))

    def _entries(self, home: _Bucket, query: Mapping[str, str]) -> dict[tuple[bytes, int], Stored | str]:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        entries: dict[tuple[bytes, int], Stored | str] = {}
        for stored in self._candidates(home, query):
            rest = stored.name.removeprefix(prefix)
            if delimiter and delimiter in rest:
                folder = prefix + rest[: rest.index(delimiter) + len(delimiter)]
                entries[folder.encode(), -1] = folder
                if folder != stored.name or not _yes(query, "includeTrailingDelimiter"):
                    continue
            entries[stored.name.encode(), stored.generation] = stored
        return entries

    @staticmethod
    def _candidates(home: _Bucket, query: Mapping[str, str]) -> Iterator[Stored]:
        first, last = query.get("startOffset", "").encode(), query.get("endOffset", "").encode()
        kept = [*home.live.values(), *(home.old.values() if _yes(query, "versions") else ())]
        for stored in kept:
            key = stored.name.encode()
            if stored.name.startswith(query.get("prefix", "")) and key >= first and (not last or key < last):
                yield stored

    def _bucket(self, name: str) -> _Bucket:
        if name not in self._buckets:
            raise Refused(404, "The specified bucket does not exist.")
        return self._buckets[name]


def _yes(query: Mapping[str, str], key: str) -> bool:
    return query.get(key, "").lower() == "true"  # the Python client sends "True"


def _encode(key: tuple[bytes, int]) -> str:
    return base64.urlsafe_b64encode(json.dumps([key[0].decode(), key[1]]).encode()).decode()


def _decode(token: str) -> tuple[bytes, int]:
    try:
        name, generation = json.loads(base64.urlsafe_b64decode(token))
        return str(name).encode(), int(generation)
    except ValueError as error:
        raise Refused(400, f"Invalid value for pageToken: {token!r}") from error
