"""M6: whatever the store does: the right bytes, a stand-in, or a reason; in time, and nothing half-kept."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model import predictor, verify
from service.loader import Ready
from tests.fakes.gcs import FakeStorage, Fault
from tests.soak.integrity_stock import Result, Stock, await_fetches, client_of, end_of, load, problems, put, scratch

PROMISED_SECONDS = 8
FILES = ("manifest.json", "model.onnx")
RIGHT, STAND_IN = "pinned", "last_known_good"


@dataclass(frozen=True)
class Case:
    """A fault, and where it leads.

    Attributes:
        file: the object it hits; empty where the whole store is away.
        faults: queued at the fake; for a store that is away, nothing.
        address: where the client looks, None for the fake.
        expected: an origin, or reason codes joined by ` or `.
        named: what the operator named: the `contract` of the pinned bundle, a `fallback`, or nothing.
    """

    name: str
    file: str
    faults: tuple[Fault, ...]
    expected: str
    address: str | None = None
    named: str = "contract"


@dataclass(frozen=True)
class End:
    """What became of a case."""

    case: Case
    pinned_code: str
    end: str
    seconds: float
    wrong: str


def cases(stock: Stock, blackhole: str, closed: str) -> list[Case]:
    """List every fault of the promise, on the manifest and on a model file, and a store that is away."""
    found = []
    for file in FILES:
        size = (stock.new / file).stat().st_size

        def add(name: str, fault: Fault, expected: str, file: str = file) -> None:
            found.append(Case(name, file, (fault,), expected))

        for status in (503, 500, 502, 504, 429, 408):
            add(f"{status} once", Fault("status", file, status=status), RIGHT)
        add("503 twice", Fault("status", file, times=2), RIGHT)
        add("503 five times", Fault("status", file, times=5), RIGHT)
        add("503 for ever", Fault("status", file, times=None), STAND_IN)
        add("429 for ever", Fault("status", file, times=None, status=429), STAND_IN)
        add("reset once", Fault("reset", file), RIGHT)
        add("reset in the body", Fault("reset", file, op="media", at=size // 2), RIGHT)
        add("reset for ever", Fault("reset", file, times=None), STAND_IN)
        for at in (0, 1, size // 2, size - 1):
            add(f"broken at {at}", Fault("truncate", file, at=at), RIGHT)
            add(f"broken at {at}, well-formed", Fault("truncate", file, at=at, declared=at), RIGHT)
        add("broken for ever", Fault("truncate", file, at=100, times=None), STAND_IN)
        add("cut short for ever", Fault("truncate", file, at=100, declared=100, times=None), STAND_IN)
        add("stall at the start", Fault("stall", file, at=0, times=None), STAND_IN)
        add("stall in the body", Fault("stall", file, at=size // 2, times=None), STAND_IN)
        add("drip", Fault("drip", file, at=10, seconds=0.05, times=None), STAND_IN)
        add("401", Fault("status", file, status=401, times=None), STAND_IN)
        add("403", Fault("status", file, status=403, times=None), STAND_IN)
        add("404", Fault("status", file, status=404, times=None), STAND_IN)
        add("says it is longer", Fault("length", file, declared=size + 10), RIGHT)
        add("says it is shorter", Fault("length", file, declared=size - 10), RIGHT)
        add("lies about its hash", Fault("hash", file, times=None), RIGHT)
        add("one bit wrong", Fault("flip", file, at=size // 2), RIGHT)
        add("one bit wrong, and the hash too", Fault("flip", file, at=size // 2, hash="sent", times=None), STAND_IN)
        add("a sign-in page", Fault("replace", file), RIGHT)
        add("a sign-in page for ever", Fault("replace", file, times=None), STAND_IN)
    away = {
        "unresolvable name": ("http://storage.invalid", {"store_unreachable", "fetch_timeout"}),
        "connection refused": (closed, {"store_unreachable", "fetch_timeout"}),
        "blackhole": (blackhole, {"store_unreachable", "fetch_timeout"}),
    }
    for name, (address, codes) in away.items():
        found.append(Case(name, "", (), STAND_IN, address))
        found.append(Case(f"{name}, fallback named", "", (), "fallback", address, "fallback"))
        found.append(Case(f"{name}, nothing named", "", (), " or ".join(sorted(codes)), address, "nothing"))
    return found


def m6(stock: Stock, load_seconds: int = PROMISED_SECONDS) -> Result:
    """Load through every fault, several at a time as most of it is waiting."""
    known = stock.answers(predictor.load(verify.read(stock.new)))
    with scratch() as folder:
        with _nobody() as (blackhole, closed):
            every = cases(stock, blackhole, closed)
            with ThreadPoolExecutor(4) as pool:
                ends = list(
                    pool.map(
                        lambda item: run(stock, folder / str(item[0]), item[1], load_seconds, known), enumerate(every)
                    )
                )
        await_fetches()
    lines = [
        f"{e.case.name:<36} {e.case.file:<14} {e.pinned_code:<20} {e.end:<20} {e.seconds:>6.2f} s  {e.wrong}"
        for e in ends
    ]
    honest = sum(not e.wrong for e in ends)
    slowest = max(e.seconds for e in ends if e.end in (RIGHT, STAND_IN, "fallback"))
    # times are judged at the promised size only
    in_time = load_seconds != PROMISED_SECONDS or slowest <= PROMISED_SECONDS
    found = f"{honest} of {len(ends)}, slowest served after {slowest:.2f} s"
    return Result("M6", f"{len(ends)} faults: right, stand-in or reason", found, honest == len(ends) and in_time, lines)


def run(stock: Stock, cache: Path, case: Case, load_seconds: int, known: np.ndarray) -> End:
    """Load through one fault; `known` are the answers of all the bundles, which differ in their manifests only."""
    with ExitStack() as stack:
        fake = stack.enter_context(FakeStorage())
        client = stack.enter_context(client_of(case.address or fake.url))
        uri = put(fake, stock.new)
        fake.faults.add(*case.faults)
        more = {
            "contract": {"model_contract": stock.contract},
            "fallback": {"fallback_uri": str(stock.old), "fallback_digest": f"sha256:{stock.old.name}"},
            "nothing": {},
        }[case.named]
        # what passes by gets all the time there is, also in the short form on a busy machine
        limit = PROMISED_SECONDS if case.expected == RIGHT else load_seconds
        settings = stock.settings(stock.seed(cache), uri, stock.new.name, load_seconds=limit, **more)
        start = time.monotonic()
        state = load(settings, client)
        seconds = time.monotonic() - start
        fake.stop()
    wrong = problems(cache, stock.keys)
    end = end_of(state)
    if end not in case.expected.split(" or "):
        wrong.append(f"expected {case.expected}")
    if not (isinstance(state, Ready) or state.reason):
        wrong.append("no reason")
    if isinstance(state, Ready):
        folder = stock.new if end == RIGHT else stock.old
        is_named = state.digest == f"sha256:{folder.name}"
        if not is_named or not np.array_equal(stock.answers(state.predictor), known):
            wrong.append("other bytes")
    return End(case, state.attempts[0].code or "", end, seconds, "; ".join(wrong))


@contextmanager
def _nobody() -> Iterator[tuple[str, str]]:
    """Addresses of a server that never answers, its queue full, and of a port where nobody listens."""
    with socket.socket() as unused, socket.socket() as deaf:
        # bound, so that nobody else gets the port, but not listening
        unused.bind(("127.0.0.1", 0))
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        with ExitStack() as stack:
            for _ in range(4):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(deaf.getsockname())
            yield tuple(f"http://127.0.0.1:{s.getsockname()[1]}" for s in (deaf, unused))  # type: ignore[misc]
