"""Loads damaged model files, each in a process of its own, and tells what became of it."""

from __future__ import annotations

import importlib
import mmap
import multiprocessing
import os
import resource
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from random import Random

import numpy as np

from model import compiling, engines, inspect
from model.engines import XGBoostEngine
from model.errors import BundleError
from model.predictor import Predictor
from model.verify import VerifiedBundle
from tests.soak.edits import Edit

HANG_SECONDS = 5
BATCH = 25
MEMORY_LIMIT_BYTES = 6 << 30
LARGE_BYTES = 512 << 20

# what the structure check says, and what the engine does
ACCEPTED, REFUSED, RAISED = "accepted", "refused", "raised"
CRASH, HANG, MEMORY, SAME, CAUGHT, MISSED = "crash", "hang", "memory", "same", "caught", "missed"
UNCHANGED = "unchanged"
FATAL = (CRASH, HANG, MEMORY)
_WORDS = ("", ACCEPTED, REFUSED, RAISED, MEMORY, SAME, CAUGHT, MISSED, UNCHANGED)


@dataclass(frozen=True)
class Subject:
    """A model file to damage, and the engine that loads it."""

    name: str
    bundle: VerifiedBundle
    file: str

    @property
    def engine(self) -> str:
        """The engine for this file."""
        return "xgboost" if self.file == "model.json" else "onnx"


@dataclass(frozen=True)
class Trial:
    """One damaged file; `known` are the undamaged model's answers to `rows`; `brief` spares engines refused files."""

    subject: Subject
    edit: Edit
    seed: str
    rows: np.ndarray
    known: np.ndarray
    brief: bool


@dataclass(frozen=True)
class End:
    """What became of it.

    Attributes:
        verdict: what the structure check says.
        outcome: what the engine does: a crash, a hang (over 5 s), too much memory, a refusal, the same answers,
            different ones that the golden rows catch, or different ones that they miss.
    """

    verdict: str
    outcome: str


@dataclass
class Tally:
    """What became of many damaged files.

    Attributes:
        before: outcome of the engine → count, whatever the check says.
        after: the same for files that the check accepts, and `refused` for those it refuses.
        worst: seeds that ended badly after the check, or were answered differently without anyone noticing.
    """

    before: Counter[str] = field(default_factory=Counter)
    after: Counter[str] = field(default_factory=Counter)
    worst: list[str] = field(default_factory=list)

    def add(self, seed: str, end: End) -> None:
        """Count one trial, unless the damage changed nothing."""
        if end.outcome == UNCHANGED:
            return
        final = end.outcome if end.verdict == ACCEPTED else end.verdict
        self.before[end.outcome] += 1
        self.after[final] += 1
        if final in (*FATAL, RAISED, MISSED):
            self.worst.append(f"{seed}: {final}")

    @property
    def survived(self) -> bool:
        """Whether nothing that the check accepts crashes, hangs or takes all memory, and the check never fails."""
        return not any(self.after[word] for word in (*FATAL, RAISED))


def tally(subject: Subject, edit: Edit, seeds: Sequence[str], brief: bool = False) -> Tally:
    """Damage a file once for each seed, and load every version; if brief, only those that the check accepts.

    The work is done by a fresh process: XGBoost's threads do not survive the fork of a process that has used it.
    """
    features = subject.bundle.manifest.features
    rows = np.concatenate([_golden(subject.bundle), compiling.random_rows(features, 1000, 3)])
    known = _load(subject, subject.bundle.files).predict(rows)
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(
            _tally, subject, [Trial(subject, edit, seed, rows, known, brief) for seed in seeds]
        ).result()


def _tally(subject: Subject, trials: Sequence[Trial]) -> Tally:
    """Be the fresh process: every batch of trials forks it before it has loaded any model."""
    importlib.import_module("xgboost" if subject.engine == "xgboost" else "onnxruntime")
    result, done = Tally(), 0
    while done < len(trials):
        ends = _batch(trials[done : done + BATCH])
        if ends[-1].outcome in (CRASH, HANG):
            # what came before in the same process may have done it: judge it alone
            ends[-1] = _batch([trials[done + len(ends) - 1]])[0]
        for trial, end in zip(trials[done:], ends, strict=False):
            result.add(trial.seed, end)
        done += len(ends)
    return result


def _batch(trials: Sequence[Trial]) -> list[End]:
    """Run trials in one child process, up to the first that ends it."""
    with mmap.mmap(-1, 2 * len(trials)) as shared:
        child = os.fork()
        if child == 0:
            try:
                _run(shared, trials)
            finally:
                os._exit(1)  # whatever is wrong, two processes must never go on from here
        _, status = os.waitpid(child, 0)
        ends = [End(_WORDS[shared[i]], _WORDS[shared[i + 1]]) for i in range(0, len(shared), 2)]
    count = next((i for i, end in enumerate(ends) if not end.outcome), len(ends))
    if count == len(ends):
        return ends
    is_hang = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM
    return [*ends[:count], End(ends[count].verdict or RAISED, HANG if is_hang else CRASH)]


def _run(shared: mmap.mmap, trials: Sequence[Trial]) -> None:
    """Be the child: leave the verdict and the outcome of each trial."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    for index, trial in enumerate(trials):
        original = trial.subject.bundle.files[trial.subject.file]
        payload = trial.edit(original, Random(trial.seed))
        before = _peak_bytes()
        signal.alarm(HANG_SECONDS)
        verdict = _check(trial.subject, payload)
        shared[2 * index] = _WORDS.index(verdict)
        signal.alarm(HANG_SECONDS)
        if payload == original:
            outcome = UNCHANGED
        else:
            outcome = REFUSED if trial.brief and verdict != ACCEPTED else _outcome(trial, payload)
        shared[2 * index + 1] = _WORDS.index(MEMORY if _peak_bytes() > before + LARGE_BYTES else outcome)
    os._exit(0)


def _peak_bytes() -> int:
    """Return the most memory this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _check(subject: Subject, payload: bytes) -> str:
    """Return what the structure check says; anything but its own error is a mistake in it."""
    try:
        inspect.check({subject.file: payload}, subject.bundle.manifest)
    except BundleError:
        return REFUSED
    except BaseException:  # noqa: BLE001 - a mistake in the check must show
        return RAISED
    return ACCEPTED


def _outcome(trial: Trial, payload: bytes) -> str:
    """Return what the engine does with the file, as `model.predictor.load` would use it."""
    subject, rows, known = trial.subject, trial.rows, trial.known
    try:
        engine = _load(subject, {**subject.bundle.files, subject.file: payload})
        found = engine.predict(rows)
        if isinstance(engine, XGBoostEngine):
            engine.contributions(rows[:8])
    except Exception:  # noqa: BLE001 - the libraries raise whatever occurs to them
        return REFUSED
    tolerance = subject.bundle.manifest.golden.tolerance
    if found.shape == known.shape and bool((np.abs(found - known) <= tolerance).all()):
        return SAME
    try:
        Predictor(subject.bundle, engine).replay_golden()
    except Exception:  # noqa: BLE001 - the same
        return CAUGHT
    return MISSED


def _load(subject: Subject, files: Mapping[str, bytes]) -> engines.Engine:
    """Load the subject's engine."""
    manifest = subject.bundle.manifest
    return engines.load(subject.engine, files, manifest.features, len(manifest.classes))


def _golden(bundle: VerifiedBundle) -> np.ndarray:
    """Return the golden rows as a matrix."""
    rows = [[np.nan if value is None else value for value in row] for row in bundle.manifest.golden.rows]
    return np.array(rows, dtype=np.float32)


def check_seconds(subject: Subject, count: int = 50) -> float:
    """Return the median time of one structure check, of this thread's own time."""
    times = []
    for _ in range(count):
        start = time.thread_time()
        inspect.check({subject.file: subject.bundle.files[subject.file]}, subject.bundle.manifest)
        times.append(time.thread_time() - start)
    return float(np.median(times))
