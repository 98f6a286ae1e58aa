"""Traffic in the background, until SIGTERM: `python -m tests.rehearse.load PROXY HOST RATE BUNDLE …`; prints JSON."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from model import predictor, verify
from model.manifest import Manifest
from tests.fakes.faulty_service import MARK

CONNECTIONS = 8


def rows(manifest: Manifest, count: int, seed: int = 1) -> list[list[float]]:
    """Return rows like those the model was made for, marked as the rehearsal's own where the last feature can be."""
    rng = random.Random(seed)
    golden = [row for row in manifest.golden.rows if None not in row]
    chosen = [[float(value) for value in rng.choice(golden) if value is not None] for _ in range(count)]
    return [[*row[:-1], float(int(row[-1])) + MARK] for row in chosen] if _takes_mark(manifest) else chosen


def _takes_mark(manifest: Manifest) -> bool:
    return manifest.features[-1].dtype == "float"


def to_body(manifest: Manifest, row: list[float]) -> bytes:
    """Return the JSON of a row: codes of closed lists become their values."""
    named = zip(manifest.features, row, strict=True)
    return json.dumps({f.name: f.values[int(value)] if f.is_category else value for f, value in named}).encode()


async def ask(proxy: str, requests: list[tuple[bytes, set[str]]], pause: float, counts: Counter[str]) -> None:
    """Send request after request over one connection, at a steady pace."""
    port = int(proxy.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    loop = asyncio.get_running_loop()
    due = loop.time()
    for turn in range(10**9):
        request, labels = requests[turn % len(requests)]
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        is_fine = head.startswith(b"HTTP/1.1 200 ")
        counts["sent"] += 1
        counts["failed"] += not is_fine
        counts["wrong"] += is_fine and json.loads(body)["label"] not in labels
        due = max(due + pause, loop.time() - 1)
        await asyncio.sleep(max(0.0, due - loop.time()))


async def run(proxy: str, host: str, rate: float, bundles: list[Path]) -> Counter[str]:
    """Send until SIGTERM; right is what one of the bundles answers."""
    loaded = [predictor.load(verify.read(bundle)) for bundle in bundles]
    manifest = loaded[-1].manifest
    requests = []
    for row in rows(manifest, 64):
        matrix = np.array([row], dtype=np.float32)
        labels = {one.manifest.classes[int(one.predict(matrix).classes[0])] for one in loaded}
        body = to_body(manifest, row)
        head = f"POST http://{host}/predict HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer t\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        requests.append((head.encode() + body, labels))
    counts: Counter[str] = Counter()
    pause = CONNECTIONS / rate
    tasks = [asyncio.create_task(ask(proxy, requests[i:] + requests[:i], pause, counts)) for i in range(CONNECTIONS)]
    done = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, done.set)
    print("ready", flush=True)
    await done.wait()
    counts["broken"] = sum(task.done() for task in tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return counts


if __name__ == "__main__":
    found = asyncio.run(run(sys.argv[1], sys.argv[2], float(sys.argv[3]), [Path(name) for name in sys.argv[4:]]))
    print(json.dumps(found), flush=True)
