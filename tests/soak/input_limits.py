"""A2 to A6: depth, numbers, ambiguity, amplification and sizes, against a real server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from tests.integration import hostile
from tests.integration.servers import Answer, Server, receive
from tests.integration.shots import REPLY_BYTES, Shot, faults_of_refusal, grown_bytes, timed
from tests.soak.input_stock import Bench, Result

TRIES = 5
DEPTH_MS, AMPLIFIED_MS, MEMORY_BYTES = 20, 50, 20_000_000
CHARSETS = ("utf-16", "utf-32", "latin-1", "utf-7", "cp037", "nonsense")
PROMISED = ("300,000 empty rows", "8 MiB of []", "8 MiB of [ and ]", "60,000 unknown keys")
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Cost:
    """What a body cost: the median of some tries, and the most memory beyond the body."""

    shot: Shot
    milliseconds: float
    grown: int

    def line(self, name: str) -> str:
        """Say it."""
        answer = self.shot.answer
        said = answer.status, [code for _, code in answer.codes], f"{self.milliseconds:.1f} ms"
        return f"{name:<34}{said!s:<48}reply {len(answer.body):>4} bytes, memory {self.grown / 1e6:+.1f} MB"


def spend(server: Server, body: bytes, headers: Mapping[str, str] = JSON) -> Cost:
    """Send a body some times."""
    (worker,) = server.workers()
    tries = [grown_bytes(server, worker, body, dict(headers)) for _ in range(TRIES)]
    seconds = median(shot.seconds for shot, _ in tries)
    return Cost(tries[-1][0], seconds * 1e3, max(grown for _, grown in tries))


def is_refused(answer: Answer, status: int, code: str | None = None) -> bool:
    """Whether an answer is our refusal with that status and, if given, that code alone."""
    has_code = code is None or [found for _, found in answer.codes] == [code]
    return answer.status == status and faults_of_refusal(answer) == [] and has_code


def uncontrolled(server: Server, cases: Mapping[str, hostile.Refused]) -> list[str]:
    """Return the cases that are not answered without their fault either."""
    statuses = {name: server.predict(case.control, "", case.headers).status for name, case in cases.items()}
    return [f"{name}: its control is answered {status}" for name, status in statuses.items() if status != 200]


def _tricks(bench: Bench, names: list[str]) -> tuple[dict[str, Cost], list[str]]:
    """Send some of the known tricks; returns what each cost, and those that were not refused as they should be."""
    found, missed = {}, []
    for name in names:
        case = hostile.REFUSED[name]
        found[name] = spend(bench.server(), case.body)
        if not is_refused(found[name].shot.answer, case.status, case.code):
            missed.append(name)
    return found, missed + uncontrolled(bench.server(), {name: hostile.REFUSED[name] for name in names})


def _lines(found: Mapping[str, Cost]) -> list[str]:
    """Say what each cost."""
    return [cost.line(name) for name, cost in found.items()]


def _is_deep(name: str) -> bool:
    """Whether a trick is about depth."""
    return "brackets" in name or "objects" in name


def a2(bench: Bench) -> Result:
    """Nest deeply."""
    found, missed = _tricks(bench, [name for name in hostile.REFUSED if _is_deep(name)])
    worst = max(cost.milliseconds for cost in found.values())
    logged = sum("RecursionError" in line for line in (*bench.server().stdout_lines, *bench.server().stderr_lines))
    kept = not missed and worst < DEPTH_MS and logged == 0
    measured = f"{len(found) - len(missed)} of {len(found)} refused, {worst:.1f} ms, {logged} RecursionError"
    return Result("A2", f"400, < {DEPTH_MS} ms, no RecursionError", measured, kept, [*missed, *_lines(found)])


def a3(bench: Bench) -> Result:
    """Send numbers that are none."""
    found, missed = _tricks(bench, [name for name in hostile.REFUSED if name.startswith("number")])
    # `codes` reads each reply strictly, so that NaN in one would have ended this
    worst = max(cost.milliseconds for cost in found.values())
    measured = f"{len(found) - len(missed)} of {len(found)} refused, no NaN in a reply, {worst:.1f} ms"
    return Result("A3", "all refused, never NaN in a reply", measured, not missed, [*missed, *_lines(found)])


def a4(bench: Bench) -> Result:
    """Send what can be read in two ways."""
    names = [name for name in hostile.REFUSED if not _is_deep(name) and not name.startswith("number")]
    found, missed = _tricks(bench, names)
    for charset in CHARSETS:
        found[charset] = spend(
            bench.server(), hostile.VALID[0], {"Content-Type": f"application/json; charset={charset}"}
        )
        missed += [] if is_refused(found[charset].shot.answer, 415) else [charset]
    for encoding, status in (("gzip", 400), ("deflate", 400), ("br", 415), ("gzip, gzip", 415)):
        name = f"false encoding {encoding}"
        found[name] = spend(bench.server(), hostile.VALID[0], {**JSON, "Content-Encoding": encoding})
        missed += [] if is_refused(found[name].shot.answer, status) else [name]
    measured = f"{len(found) - len(missed)} of {len(found)} refused"
    return Result("A4", "400 or 415 each", measured, not missed, [*missed, *_lines(found)])


def a5(bench: Bench) -> Result:
    """Send little that would become much."""
    found, missed = {}, []
    for name, case in hostile.AMPLIFIERS.items():
        found[name] = spend(bench.server(purpose="A5"), case.body)
        if not is_refused(found[name].shot.answer, case.status) or found[name].grown >= MEMORY_BYTES:
            missed.append(name)
    missed += uncontrolled(bench.server(purpose="A5"), hostile.AMPLIFIERS)
    worst = max(found[name].milliseconds for name in PROMISED)
    most = max(cost.grown for cost in found.values())
    largest = max(len(cost.shot.answer.body) for cost in found.values())
    kept = not missed and worst < AMPLIFIED_MS and largest < REPLY_BYTES
    asked = f"refused < {AMPLIFIED_MS} ms, reply < 16 KiB, memory + < 20 MB"
    measured = f"{worst:.0f} ms, {largest} bytes, +{most / 1e6:.1f} MB"
    return Result("A5", asked, measured, kept, [*missed, *_lines(found)])


def a6(bench: Bench) -> Result:
    """Send too much, declare too much, and send what becomes too much."""
    server, limit = bench.server(purpose="A6"), hostile.LIMIT_BYTES
    found = {name: spend(server, case.body, case.headers) for name, case in hostile.BOMBS.items()}
    missed = [n for n, case in hostile.BOMBS.items() if not is_refused(found[n].shot.answer, case.status)]
    heads = {
        "one byte over": (f"Content-Length: {limit + 1}", b""),
        "40 MB declared, no body": ("Content-Length: 40000000", b""),
        "chunked over the limit": ("Transfer-Encoding: chunked", (b"10000\r\n" + b" " * 65_536 + b"\r\n") * 129),
    }
    missed += [name for name, (line, body) in heads.items() if not is_refused(_raw(server, line, body), 413)]
    missed += uncontrolled(server, hostile.BOMBS)
    exact = timed(server, hostile.VALID[0].ljust(limit)).answer.status
    most = max(cost.grown for cost in found.values())
    kept = not missed and exact == 200 and most < MEMORY_BYTES
    tried = len(found) + len(heads)
    measured = f"{tried - len(missed)} of {tried} refused, the limit itself {exact}, +{most / 1e6:.1f} MB"
    return Result("A6", "413 without reading the body, memory flat", measured, kept, [*missed, *_lines(found)])


def _raw(server: Server, line: str, body: bytes) -> Answer:
    """Send a head with one more line, and what there is of a body."""
    with server.open_socket() as sock:
        sock.sendall(f"POST /predict HTTP/1.1\r\nHost: x\r\n{line}\r\n\r\n".encode())
        sock.sendall(body)
        return receive(sock)
