"""Small requests that cost much, and clients who send them again and again while others want single rows answered."""

from __future__ import annotations

import json
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread

from . import servers
from .hostile import ADELIE, NAMES
from .servers import DEADLINE_SECONDS, HOST, POLL_SECONDS

CLIENTS, HONEST = 4, 60
SMALL_BYTES = 24_000
MODEL = "/v2/models/penguins/infer"


def request(method: str, path: str, body: bytes = b"", headers: Sequence[str] = ()) -> bytes:
    """Return the bytes of a request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: x", *headers]
    if method == "POST":
        lines += ["Content-Type: application/json"] * (not any(line.startswith("Content-Type") for line in headers))
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


SINGLE = request("POST", "/predict", json.dumps(ADELIE).encode())


def _batch(row: str, before: str = '{"instances":[') -> bytes:
    return (before + ",".join([row] * ((SMALL_BYTES - len(before)) // (len(row) + 1))) + "]}").encode()


def _table(row: str) -> bytes:
    return _batch(row, f'{{"features":{json.dumps(NAMES)},"instances":[')


def _tensors(datatype: str, size: int, *, is_whole: bool = True) -> bytes:
    """Return a request whose tensors are raw bytes, all of them 0."""
    rows = SMALL_BYTES // (4 * size)
    inputs = [
        {"name": name, "shape": [rows], "datatype": datatype, "parameters": {"binary_data_size": rows * size}}
        for name in NAMES
    ]
    head = json.dumps({"inputs": inputs}).encode()
    body = head + bytes(4 * rows * size - (not is_whole))
    raw = ("Content-Type: application/octet-stream", f"Inference-Header-Content-Length: {len(head)}")
    return request("POST", MODEL, body, raw)


GRAMS, KILOGRAMS = "[39,18,181,3750]", "[39,18,181,6.2]"
# what is asked, each at most `SMALL_BYTES` and some headers long
COSTLY = {
    "rows of nothing": request("POST", "/predict", _batch("{}")),
    "rows of nothing, each for itself": request("POST", "/predict?on_error=row", _batch("{}")),
    "rows out of range": request("POST", "/predict", _table("[0,0,0,0]")),
    "rows out of range, each for itself": request("POST", "/predict?on_error=row", _table("[0,0,0,0]")),
    "rows in other units": request("POST", "/predict", _table(KILOGRAMS)),
    "rows in other units to convert": request("POST", "/predict?on_unit=convert&on_error=row", _table(KILOGRAMS)),
    "rows with many unknown keys": request("POST", "/predict", _batch('{"a":1}')),
    "good rows": request("POST", "/predict", _table(GRAMS)),
    "explanations": request("POST", "/predict?explain=true", _table(GRAMS)),
    "explanations in escapes": request("POST", "/predict?%65xplain=t%72ue", _table(GRAMS)),
    "many parameters": request("POST", f"/predict?{'a=1&' * 900}", json.dumps(ADELIE).encode()),
    "v1 rows in other units": request("POST", "/v1/models/penguins:predict", _batch(KILOGRAMS)),
    "v2 texts of nothing": _tensors("BYTES", 4),
    "v2 small numbers": _tensors("INT8", 1),
    "v2 a byte too few": _tensors("INT8", 1, is_whole=False),
    "MLflow rows of nothing": request("POST", "/invocations", _batch("{}", '{"dataframe_records":[')),
    "CSV in other units": request(
        "POST", "/invocations", b"39,18,181,6.2\n" * (SMALL_BYTES // 14), ("Content-Type: text/csv",)
    ),
    "metrics": request("GET", "/metrics"),
    "metrics with exemplars": request("GET", "/metrics", headers=("Accept: application/openmetrics-text",)),
    "drift": request("GET", "/model/drift"),
    "the documents' script": request("GET", "/docs/assets/swagger-ui-bundle.js"),
    "the document": request("GET", "/openapi.json"),
    "the model card": request("GET", "/model"),
    "no route": request("GET", "/" + "x/" * 1_900),
}
# in short: one of each cause
SHORT = (
    "rows of nothing, each for itself",
    "rows in other units",
    "explanations in escapes",
    "v2 texts of nothing",
    "metrics",
    "drift",
)
# one client each
TOGETHER = ("rows of nothing, each for itself", "rows in other units to convert", "explanations in escapes", "metrics")


@dataclass
class Outcome:
    """What became of the single rows, and of the costly requests beside them.

    Attributes:
        statuses: of the single rows.
        seconds: how long each took, connecting included.
        others: statuses of the costly requests.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    others: Counter[int] = field(default_factory=Counter)


def _again_and_again(port: int, data: bytes, has_ended: Event, statuses: Counter[int]) -> None:
    """Send a request over one connection until told to end; a connection that is closed is made anew."""
    while not has_ended.is_set():
        with socket.create_connection((HOST, port), timeout=DEADLINE_SECONDS) as sock:
            answer = None
            while not has_ended.is_set() and (answer is None or answer.headers.get("connection") != "close"):
                sock.sendall(data)
                answer = servers.receive(sock)
                statuses[answer.status] += 1


@contextmanager
def sent(port: int, data: bytes, clients: int = CLIENTS) -> Iterator[Counter[int]]:
    """Let some clients send a request all the time."""
    statuses: Counter[int] = Counter()
    has_ended = Event()
    threads = [Thread(target=_again_and_again, args=(port, data, has_ended, statuses)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        # until all of them are at it
        deadline = time.monotonic() + DEADLINE_SECONDS
        while statuses.total() < clients and time.monotonic() < deadline:
            has_ended.wait(POLL_SECONDS)
        yield statuses
    finally:
        has_ended.set()
        for thread in threads:
            thread.join(DEADLINE_SECONDS)


def ask_singly(port: int, count: int = HONEST) -> tuple[Counter[int], list[float]]:
    """Ask for single rows one after the other, each over a connection of its own; statuses, and seconds of each."""
    statuses: Counter[int] = Counter()
    seconds = []
    for _ in range(count):
        begin = time.monotonic()
        with socket.create_connection((HOST, port), timeout=DEADLINE_SECONDS) as sock:
            sock.sendall(SINGLE)
            statuses[servers.receive(sock).status] += 1
        seconds.append(time.monotonic() - begin)
    return statuses, seconds


def beside(port: int, data: bytes) -> Outcome:
    """Ask for single rows while some clients send a costly request all the time."""
    with sent(port, data) as others:
        statuses, seconds = ask_singly(port)
    return Outcome(statuses, seconds, others)


def send_for(port: int, name: str, seconds: float) -> Counter[int]:
    """Send a costly request for some time, as one client; its statuses."""
    with sent(port, COSTLY[name], clients=1) as statuses:
        Event().wait(seconds)
    return statuses
