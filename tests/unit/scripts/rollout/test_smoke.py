"""What is asked of revisions over HTTP, of servers that answer rightly, wrongly, in part, too much, or never."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import requests

from scripts.rollout import smoke
from scripts.rollout.gate import Look
from scripts.rollout.smoke import LOOK_ID, LOOK_ROWS, GoldenRows, HttpProber
from tests.fakes.platform import DIGEST

ROWS = 20
CLASSES = ("bad", "good")


def right(row: float) -> float:
    return row / ROWS


GOLDEN = GoldenRows(
    ("x",),
    tuple((float(row),) for row in range(ROWS)),
    CLASSES,
    np.array([[1 - right(row), right(row)] for row in range(ROWS)]),
    1e-6,
)


@dataclass
class Revision:
    """A server; `ways` says how a path is answered: ok, 503, 429, drips, endless, text, list, wrong, nan, half."""

    ways: dict[str, str] = field(default_factory=dict)
    seen: list[tuple[str, str, list[float]]] = field(default_factory=list)
    url: str = ""
    turns: Iterator[bool] = field(default_factory=lambda: itertools.cycle((True, False)))
    ended: threading.Event = field(default_factory=threading.Event)


def handler(revision: Revision) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply({"digest": DIGEST, "fallback": False, "status": "ready"})

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            rows = [row for (row,) in asked["instances"]]
            good = [{"wrong": 1 - right(row), "nan": float("nan")}.get(self.way, right(row)) for row in rows]
            self.reply({"predictions": [{"probabilities": {"bad": 1 - one, "good": one}} for one in good]}, rows)

        @property
        def way(self) -> str:
            return revision.ways.get(self.path, "ok")

        def reply(self, answer: object, rows: list[float] | None = None) -> None:
            revision.seen.append((self.path, self.headers["X-Request-Id"] or "", rows or []))
            way = self.way
            if way == "half":
                way = "ok" if next(revision.turns) else "503"
            body = {"text": b"ready", "list": b"[]"}.get(way, json.dumps(answer).encode())
            self.send_response(int(way) if way.isdecimal() else 200)
            is_slow = way in ("drips", "endless")
            self.send_header("Content-Length", str(1 << 40 if is_slow else len(body)))
            self.end_headers()
            while is_slow and not revision.ended.wait(0.05 if way == "drips" else 0):
                self.wfile.write(b" " * (1 if way == "drips" else 1 << 20))
                self.wfile.flush()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


@pytest.fixture
def revision() -> Iterator[Revision]:
    found = Revision()

    class Server(ThreadingHTTPServer):
        request_queue_size = 64

        def handle_error(self, *_: object) -> None:
            """Whoever asks goes away in the middle."""

    server = Server(("127.0.0.1", 0), handler(found))
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    found.ended.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def prober() -> Iterator[HttpProber]:
    with requests.Session() as session:
        yield HttpProber(GOLDEN, session, lambda: None, look_timeout=(2, 0.2))


def test_a_look_asks_a_few_golden_rows_in_turn_each_in_a_request_of_its_own(revision, prober):
    for _ in range(5):
        probe = prober.look(revision.url, DIGEST)
        assert (probe.digest_served, probe.is_ready, probe.looks) == (
            DIGEST,
            True,
            (Look(LOOK_ROWS, LOOK_ROWS, 0, True),),
        )
    rows = [row for path, _, rows in revision.seen if path == "/predict" for row in rows]
    assert len(rows) == 5 * LOOK_ROWS == 2 * ROWS
    assert {row: rows.count(row) for row in rows} == dict.fromkeys(map(float, range(ROWS)), 2)
    assert all(len(rows) == 1 for path, _, rows in revision.seen if path == "/predict")
    ids = {request_id for _, request_id, _ in revision.seen}
    assert all(request_id.startswith(LOOK_ID) for request_id in ids)
    assert len(ids) == len(revision.seen) == len(prober.asked(revision.url))
    assert {one.status for one in prober.asked(revision.url)} == {"2xx"}


def test_golden_rows_that_are_to_be_traffic_are_traffic(revision, prober):
    assert prober.synthesize(revision.url, revision.url, 50) == smoke.SYNTHETIC_ROWS
    assert {request_id for _, request_id, _ in revision.seen} == {""}
    assert prober.asked(revision.url) == ()


@pytest.mark.parametrize(
    ("ways", "look"),
    [
        ({}, Look(8, 8, 0, True)),
        ({"/predict": "503"}, Look(8, 0, 0, True)),
        ({"/predict": "429"}, Look(8, 0, 0, True)),
        ({"/predict": "drips"}, Look(8, 0, 0, True)),
        ({"/predict": "endless"}, Look(8, 0, 0, True)),
        ({"/predict": "text"}, Look(8, 0, 0, True)),
        ({"/predict": "list"}, Look(8, 0, 0, True)),
        ({"/predict": "half"}, Look(8, 4, 0, True)),
        ({"/predict": "wrong"}, Look(8, 8, 8, True)),
        ({"/predict": "nan"}, Look(8, 8, 8, True)),
        ({"/health/ready": "503"}, Look(8, 8, 0, False)),
        ({"/health/ready": "drips"}, Look(8, 8, 0, False)),
        ({"/model": "503"}, Look(8, 8, 0, False)),
        ({"/model": "text"}, Look(8, 8, 0, False)),
        # asked a second time
        ({"/model": "half"}, Look(8, 8, 0, True)),
        (dict.fromkeys(("/predict", "/health/ready", "/model"), "503"), Look(8, 0, 0, False)),
    ],
    ids=str,
)
def test_what_a_look_hears_of_a_revision_that_answers_in_part(revision, prober, ways, look):
    revision.ways = ways
    assert prober.look(revision.url, DIGEST).looks == (look,)


def test_nobody_there_is_silent(prober):
    probe = prober.look("http://127.0.0.1:9", DIGEST)
    assert probe.looks == (Look(8, 0, 0, False),)
    assert probe.looks[0].is_silent
    assert prober.asked("http://127.0.0.1:9") == ()
