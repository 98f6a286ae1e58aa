"""Traces requests to a server of this machine: `python -m load.trace`.

Prints the trace of the median request as a tree, and the model's share of the whole time as a caller sees it.
"""

from __future__ import annotations

import http.client
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from load import bundles, processes, servers
from load.bundles import Bundle
from load.collector import MODEL, Span, by_trace, collecting, seconds
from load.servers import HOST, ROOKERY, LoadError, Post, Running
from model.command_line import Parser

ROOT_SPAN = "POST /predict"
MOST_SECONDS = 60
WARM_REQUESTS = 200
# attributes of a span that are told
SHOWN = ("prediction.class", "rows")


@dataclass(frozen=True)
class Traced:
    """One request.

    Attributes:
        trace_id: as it was sent.
        seconds: from sending to the whole answer, as the caller sees it.
    """

    trace_id: str
    seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Trace, print; returns 2 if the measurement is worth nothing."""
    parser = Parser(
        prog="python -m load.trace",
        description=__doc__,
        epilog="exit status: 0 measured, 2 the run is worth nothing, or wrong usage\n\n"
        "example: python -m load.trace bundles/iris --rows 100",
    )
    parser.add_argument("bundle", type=Path, nargs="?", default=Path("bundles/penguins"), help="a bundle")
    parser.add_argument("--requests", type=int, default=100, help="default: 100")
    parser.add_argument("--rows", type=int, default=1, help="instances in each request")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    bundle = bundles.read(given.bundle)
    processes.become_load()
    try:
        with collecting() as collector:
            with servers.serving(ROOKERY, bundle, settings=collector.settings) as running:
                sent = _send(running, bundle, given.requests, given.rows)
                spans = collector.wait_for([one.trace_id for one in sent])
            if missing := len({one.trace_id for one in sent} - by_trace(spans).keys()):
                raise LoadError(f"{missing} of {len(sent)} traces did not arrive")
    except LoadError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    found = figures(sent, spans)
    print(json.dumps(found) if given.json else "\n".join(report(found)))
    return 0


def _send(running: Running, bundle: Bundle, count: int, rows: int) -> list[Traced]:
    """Send requests over one connection, the last ones with a trace each."""
    instances = [instance for instance, _ in bundle.golden]
    connection = http.client.HTTPConnection(HOST, running.port, timeout=MOST_SECONDS)
    sent = []
    for number in range(WARM_REQUESTS + count):
        post = _post(running, [instances[(number + offset) % len(instances)] for offset in range(rows)])
        trace_id = f"{number + 1:032x}"
        is_traced = number >= WARM_REQUESTS
        headers = {
            "Content-Type": "application/json",
            "traceparent": f"00-{trace_id}-{number + 1:016x}-0{int(is_traced)}",
        }
        begin = time.perf_counter()
        connection.request("POST", post.path, post.body, headers)
        reply = connection.getresponse()
        body = reply.read()
        if reply.status != 200:
            raise LoadError(f"a request was refused: {reply.status} {body[:200]!r}")
        if is_traced:
            sent.append(Traced(trace_id, time.perf_counter() - begin))
    connection.close()
    return sent


def _post(running: Running, instances: Sequence[dict[str, float]]) -> Post:
    """Word a request."""
    kind = running.kind
    return kind.one(instances[0]) if len(instances) == 1 or kind.batch is None else kind.batch(instances)


def figures(sent: Sequence[Traced], spans: Sequence[Span]) -> dict[str, Any]:
    """Return the spans of the median request, and where the time of all went."""
    ordered = sorted(sent, key=lambda one: one.seconds)
    median = ordered[len(ordered) // 2]
    own = [span for span in spans if span["trace_id"] == median.trace_id]
    total = statistics.median(one.seconds for one in sent)
    server, model = (statistics.median(seconds(s) for s in spans if s["name"] == name) for name in (ROOT_SPAN, MODEL))
    return {
        "requests": len(sent),
        "median_seconds": {"caller": total, "answer": server, "model": model},
        "model_share": {"of_answer": model / server, "of_whole": model / total},
        "median_request": {
            "trace_id": median.trace_id,
            "caller_seconds": median.seconds,
            "spans": list(_below(own, next(span for span in own if span["name"] == ROOT_SPAN), 1)),
        },
    }


def _below(spans: Sequence[Span], span: Span, depth: int) -> Iterator[dict[str, Any]]:
    """Yield a span and those within it, each with its depth."""
    told = {name: span["attributes"][name] for name in SHOWN if name in span["attributes"]}
    yield {"depth": depth, "name": span["name"], "seconds": seconds(span), **told}
    inner = [one for one in spans if one["parent_id"] == span["span_id"]]
    for one in sorted(inner, key=lambda one: (one["start_ns"], one["end_ns"])):
        yield from _below(spans, one, depth + 1)


def report(found: dict[str, Any]) -> Iterator[str]:
    """Yield the tree of the median request, and where the time of all went, for a person."""
    median, medians, share = found["median_request"], found["median_seconds"], found["model_share"]
    yield f"trace {median['trace_id']}, as the caller saw it {median['caller_seconds'] * 1e3:.3f} ms"
    for span in median["spans"]:
        told = ", ".join(f"{name}={span[name]}" for name in SHOWN if name in span)
        depth = span["depth"]
        yield f"{'  ' * depth}{span['name']:<{34 - 2 * depth}}{span['seconds'] * 1e3:8.3f} ms  {told}".rstrip()
    yield (
        f"{found['requests']} requests, medians: the model {medians['model'] * 1e3:.3f} ms, "
        f"{ROOT_SPAN} {medians['answer'] * 1e3:.3f} ms,"
    )
    shares = f"{share['of_answer']:.0%} of the answer and {share['of_whole']:.0%} of the whole"
    yield f"the caller {medians['caller'] * 1e3:.3f} ms: the model is {shares}"


if __name__ == "__main__":
    sys.exit(main())
