"""A1 and A7 to A9: many bodies, malformed, made up from the document, or valid, against real servers."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from http.client import HTTPConnection

import numpy as np

from model.domain import to_matrix
from tests.integration import conformance, oracle
from tests.integration.servers import exchange
from tests.integration.shots import faults_of_refusal, fire, percentile
from tests.integration.test_real_data import in_batches, random_values
from tests.soak.agreement import Disagreement, Ways
from tests.soak.input_stock import Bench, Result
from tests.unit.service.bodies import write_body

SEED = 20_260_207
P99_MS = 50
# what differs from one answer to the next
CHANGING = ("date", "server-timing")


def a1(bench: Bench, count: int = 10_000) -> Result:
    """Send malformed bodies."""
    server = bench.server()
    before = server.workers()
    shots = fire(server, count, SEED)
    p99 = percentile([shot.seconds * 1e3 for shot in shots], 0.99)
    failed = [f"{shot.answer.status}: {shot.body[:200]!r}" for shot in shots if shot.answer.status >= 500]
    odd = [
        f"{faults}: {shot.body[:200]!r}"
        for shot in shots
        if shot.answer.status >= 400 and (faults := faults_of_refusal(shot.answer))
    ]
    restarts = len(set(server.workers()) - set(before))
    kept = not failed and not odd and restarts == 0 and p99 < P99_MS
    statuses = dict(sorted(Counter(shot.answer.status for shot in shots).items()))
    measured = f"{len(failed)} 5xx, {restarts} restarts, {len(odd)} odd refusals, p99 {p99:.1f} ms"
    asked = f"{count} bodies: 0 5xx, 0 restarts, our form, p99 < {P99_MS} ms"
    return Result("A1", asked, measured, kept, [f"{len(shots)} bodies: {statuses}", *failed, *odd])


def a7(bench: Bench, examples: int = 1_000) -> Result:
    """Let schemathesis make requests up from the document."""
    cases, failures, lines = 0, 0, []
    for model in ("penguins", "plots"):
        for name in conformance.RUNS:
            folder = bench.root / f"conformance-{model}-{name.replace(' ', '-')}"
            folder.mkdir()
            found = conformance.run(bench.server(model), name, examples, folder)
            cases, failures = cases + found.cases, failures + found.failures
            lines.append(f"{model}, {name}: {found.cases} cases, {found.failures} failures")
            lines += found.text.splitlines() if found.failures else []
    kept = failures == 0 and cases > 2 * examples
    asked = f"all checks, {examples} examples an operation: 0 failures"
    return Result("A7", asked, f"{cases} cases, {failures} failures", kept, lines)


def a8(bench: Bench, count: int = 10_000) -> Result:
    """Send rows that are valid for the manifest, and compare with the model in this process."""
    predictor = bench.predictor("penguins")
    features, random = predictor.manifest.features, np.random.default_rng(SEED)
    rows = list(zip(*(random_values(feature, count, random) for feature in features), strict=True))
    expected = oracle.answers(predictor, to_matrix(features, rows))
    instances = [dict(zip(predictor.manifest.feature_names, row, strict=True)) for row in rows]
    different = {}
    for path in ("true", "false"):
        actual = in_batches(bench.server(FAST_PATH=path), instances)
        different[f"FAST_PATH={path}"] = sum(a != b for a, b in zip(actual, expected, strict=True))
    kept = len(expected) == count and not any(different.values())
    return Result("A8", f"{count} rows, difference 0", f"{count} rows, difference {different}", kept)


def a9(bench: Bench, count: int = 100_000) -> Result:
    """Read bodies every way: fast accept against the schema, the short door against Flask's route."""
    outcomes: Counter[str] = Counter()
    differences = []
    for model in bench.models:
        predictor = bench.predictor(model)
        ways, features = Ways(predictor), predictor.manifest.features
        seeds = range(count // len(bench.models) + 1)
        for seed in seeds:
            try:
                outcomes[ways.check(write_body(features, seed))] += 1
            except Disagreement as error:
                differences.append(f"{model} {seed}: {error}")
        with closing(bench.server(model).connect()) as short, closing(bench.server(model).connect()) as long:
            for seed in seeds:
                body = write_body(features, seed)
                if _answer(short, body) != _answer(long, body, {"Origin": "https://lab.example"}):
                    differences.append(f"{model} {seed}: the doors differ")
    tried = sum(outcomes.values()) + len(differences)
    lines = [f"fast accept against the schema: {dict(outcomes)}", *differences[:20]]
    kept = not differences and tried >= count and len(outcomes) == 3
    return Result(
        "A9", f"{count} bodies, 0 differences", f"{tried} bodies, {len(differences)} differences", kept, lines
    )


def _answer(connection: HTTPConnection, body: bytes, extra: dict[str, str] | None = None) -> tuple[object, ...]:
    """Return what came back, without what changes; an Origin is what the short door leaves to Flask."""
    answer = exchange(connection, "POST", "/predict", body, {"X-Request-Id": "soak", **(extra or {})})
    headers = {name: value for name, value in answer.headers.items() if name not in CHANGING}
    return answer.status, headers, answer.body
