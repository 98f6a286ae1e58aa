"""M7: processes that load a new bundle into one cache folder, killed at any moment.

    python -m tests.soak.integrity_crash work

is the process that forks them: it has everything imported and no threads. It reads one trial a line (JSON) and answers
with one line, how the child ended.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from model import signing
from model.cache import Cache
from model.store import Bucket, parse
from service.config import Settings
from service.loader import Loader, Ready
from tests.fakes.gcs import FakeStorage, Fault
from tests.soak.integrity_stock import NOWHERE, Result, Stock, broken, client_of, problems, put, scratch

TOUCHING = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.listdir", "os.scandir", "os.chmod"}
TOUCHING |= {"shutil.rmtree", "tempfile.mkdtemp", "tempfile.mkstemp"}


def m7(stock: Stock, kills: int = 200) -> Result:
    """Kill loads, half of them at a random time and half at a random touch of the folder; look after each one."""
    random = Random(7)
    ends: Counter[str] = Counter()
    wrong: list[str] = []
    with scratch() as folder, FakeStorage() as fake, _Worker() as worker:
        cache = stock.seed(folder / "cache")
        uris = [put(fake, one) for one in stock.bundles]
        # the marks of a killed process count as crashes: every trial is a long time after the last one
        clock = 0

        def trial(number: int, moment: dict[str, Any]) -> dict[str, Any]:
            nonlocal clock
            clock += 1000
            which = number % len(uris)
            size = (stock.bundles[which] / "model.json").stat().st_size
            fake.faults.clear()
            fake.faults.add(Fault("drip", "model.json", at=size - 20, seconds=0.003))
            public = next(iter(stock.keys.by_hint.values()))
            task = {
                "url": fake.url,
                "uri": uris[which],
                "digest": stock.bundles[which].name,
                "cache": str(cache),
                "key": _pem(public),
                "now": time.time() + clock,
                **moment,
            }
            return worker.run(task)

        whole = [trial(number, {}) for number in range(1, 4)]
        assert all(one["end"] == "pinned" for one in whole), whole
        seconds, touches = max(one["seconds"] for one in whole), max(one["touches"] for one in whole)
        number = 0
        while ends["killed by time"] + ends["killed at a touch"] < kills and number < kills * 4:
            by_time = number % 2 == 0
            moment = {"after": random.uniform(0, seconds)} if by_time else {"touch": random.randint(1, touches)}
            ended = trial(number // 2 + random.randrange(3), moment)
            number += 1
            word = (
                ("killed by time" if by_time else "killed at a touch") if ended["end"] == "killed" else "finished first"
            )
            ends[word] += 1
            if ended["end"] not in ("killed", "pinned"):
                wrong.append(f"{moment}: {ended}")
            wrong += [f"{moment}: {line}" for line in broken(cache, stock.keys)]
            if Cache(cache).last_known_good is None:
                wrong.append(f"{moment}: the last known good bundle is gone")
        left = len(problems(cache, stock.keys))
        clock += 10_000
        final = [trial(one, {})["end"] for one in range(3)]
        left_after = len(problems(cache, stock.keys))
        held = len(list((cache / "bundles").iterdir()))
    killed = ends["killed by time"] + ends["killed at a touch"]
    kept = killed >= kills and not wrong and final == ["pinned"] * 3 and left_after == 0
    lines = [f"{word:<20} {count:>5}" for word, count in sorted(ends.items())]
    lines += [f"left over {left}, after three whole loads {left_after}; folders held {held}", *wrong[:20]]
    return Result("M7", f"{kills} kills: whole old or whole new", f"{killed} kills, {len(wrong)} broken", kept, lines)


class _Worker:
    """The forking process."""

    def __enter__(self) -> _Worker:
        command = [sys.executable, "-m", "tests.soak.integrity_crash", "work"]
        environment = {**os.environ, "DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA": "true"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def run(self, task: dict[str, Any]) -> dict[str, Any]:
        """Run one trial."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def _pem(key: Any) -> str:
    from cryptography.hazmat.primitives import serialization

    form = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return form.decode()


def work() -> None:
    """Fork a process for each line."""
    import onnxruntime  # noqa: F401 - before the fork, once for all
    from google.cloud import storage  # noqa: F401

    for line in sys.stdin:
        task = json.loads(line)
        reader, writer = os.pipe()
        start = time.monotonic()
        child = os.fork()
        if child == 0:
            try:
                os.close(reader)
                os.write(writer, json.dumps(attempt(task)).encode())
            finally:
                os._exit(0)
        os.close(writer)
        if "after" in task:
            threading.Event().wait(task["after"])
            os.kill(child, signal.SIGKILL)
        with os.fdopen(reader, "rb") as told:
            said = told.read()
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        end = {"end": "killed"} if killed else json.loads(said or b'{"end": "died"}')
        print(json.dumps({**end, "seconds": time.monotonic() - start}), flush=True)


def attempt(task: dict[str, Any]) -> dict[str, Any]:
    """Load, and count how often the cache folder is touched; the touch asked for is the last."""
    touches = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal touches
        if event in TOUCHING and arguments and str(arguments[0]).startswith(task["cache"]):
            touches += 1
            if touches == task.get("touch"):
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    settings = Settings(
        model_uri=task["uri"],
        model_digest=f"sha256:{task['digest']}",
        public_keys=signing.load_keys(task["key"].encode()),
        cache_dir=Path(task["cache"]),
        baked_bundle=NOWHERE,
    )
    with client_of(task["url"]) as client:
        loader = Loader(settings, lambda uri: Bucket(parse(uri), client), lambda: task["now"])
        state = loader.load()
    end = state.attempts[-1].origin if isinstance(state, Ready) else state.code
    return {"end": end, "touches": touches}


if __name__ == "__main__" and sys.argv[1:] == ["work"]:
    work()
