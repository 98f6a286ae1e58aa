"""What it costs to be seen: a line of the log, an event, the spans of a sampled call, and what was decided against.

    python -m tests.soak.sight_costs

prints the figures of decisions 30 to 32, in microseconds of one call, medians of several rounds; the log goes nowhere.
Nothing else may run beside it, and bundles/penguins must be trained.
"""

from __future__ import annotations

import base64
import gzip
import hmac
import json
import logging
import os
import statistics
import sys
import timeit
from collections.abc import Callable, Sequence
from pathlib import Path

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

from model import predictor, verify
from model.bundle import resolve
from model.manifest import example
from service import logs
from service.answer import Answerer
from service.config import Settings
from service.events import Events
from service.form import Call
from service.loader import Ready
from service.monitor import Monitor, Served
from service.spans import Maker
from service.structured import JsonFormatter
from service.tracing import Trace

ROUNDS, CALLS = 7, 2_000
BUNDLES = Path("bundles/penguins")
TRACE = Trace("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", is_sampled=True)
# request id, row and class, signed and sent along
RECEIPT = b"4bf92f3577b34da6a3ce929d0e0e4736 0 Adelie"


class Keep:
    """Keeps finished calls, see `service.monitor.Consumer`."""

    def __init__(self) -> None:
        """Begin with none."""
        self.calls: list[Served] = []

    def note(self, calls: Sequence[Served]) -> None:
        """Keep them."""
        self.calls += calls

    def work(self) -> None:
        """Do nothing."""


def microseconds(work: Callable[[], object]) -> float:
    """Return what one call takes."""
    return statistics.median(timeit.repeat(work, number=CALLS, repeat=ROUNDS)) / CALLS * 1e6


def say(what: str, work: Callable[[], object]) -> None:
    """Print what one call takes."""
    print(f"{what:<58}{microseconds(work):8.1f} µs", file=sys.stderr, flush=True)


def main() -> None:
    """Measure and print."""
    # the log's thread writes to standard output
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - until the process ends
    logs.set_up("info")
    ready = Ready(predictor.load(verify.read(resolve(BUNDLES))))
    keep = Keep()
    answerer = Answerer(ready, Settings(), Monitor([keep]))
    row = json.dumps(example(ready.predictor.manifest)).encode()

    def refuse() -> None:
        answerer.answer(Call(b'{"bill_length_mm": "1"}', request_id="refused"))

    refuse()
    answerer.answer(Call(row, request_id="answered"))
    answerer.monitor.flush()
    refused, answered = keep.calls
    _lines(ready, refused, answered)
    say("a refusal, four problems", refuse)
    say("one row, answered", lambda: answerer.answer(Call(row, request_id="answered")))
    _spans(ready, answered)
    key = bytes(32)
    say("a signed receipt", lambda: base64.urlsafe_b64encode(hmac.digest(key, RECEIPT, "sha256")))
    size = len(b"X-Receipt: \r\n") + len(base64.urlsafe_b64encode(bytes(32)).rstrip(b"="))
    print(f"{'bytes of a signed receipt, as a header':<58}{size:8}", file=sys.stderr)


def _lines(ready: Ready, refused: Served, answered: Served) -> None:
    """Measure what the log costs, its thread's part included."""
    events, telling = Events(ready, Settings()), Events(ready, Settings(event_rate=1.0))

    def summarise() -> None:
        # else they were only counted from the hundredth on
        events._earned[""] = 1.0
        events._summarise(refused)

    say("a line about a refusal", summarise)
    say("an event about one row", lambda: telling._tell(answered))
    logs.drain(60)
    record = logging.makeLogRecord({"msg": "request.refused", **telling._of_call(refused)})
    formatter = JsonFormatter()
    say("of either, to write it as JSON", lambda: formatter.format(record))
    events._earned[""] = 0.0
    say("a refusal beyond 100 a second, counted", lambda: events._summarise(refused))


def _spans(ready: Ready, answered: Served) -> None:
    """Measure what a sampled call costs in the thread that sends spans."""
    maker = Maker(ready, Settings())
    spans = maker.make(answered, TRACE, 1_700_000_000_000_000_000)
    say(f"to make the {len(spans)} spans of a call", lambda: maker.make(answered, TRACE, 1_700_000_000_000_000_000))
    batch = list(spans) * 50
    encoded = microseconds_of_batch(lambda: gzip.compress(encode_spans(batch).SerializeToString()), 50)
    print(f"{'to encode and pack them, of 50 calls together':<58}{encoded:8.1f} µs", file=sys.stderr, flush=True)


def microseconds_of_batch(work: Callable[[], object], size: int) -> float:
    """Return what one of `size` takes that are done together."""
    return statistics.median(timeit.repeat(work, number=20, repeat=ROUNDS)) / 20 / size * 1e6


if __name__ == "__main__":
    main()
