"""Promise A10: coverage-guided fuzzing of decoding, decompression, fast accept and the schema.

    python -m tests.soak.fuzz --seconds 300 [--keep]

starts from `tests/corpus` and from generated bodies, prints a line, and exits with 1 if anything was found; `--keep`
puts the smallest files that cover what was covered back into `tests/corpus`.
"""

from __future__ import annotations

import argparse
import gzip
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from model import verify
from tests.integration import hostile
from tests.soak.input_stock import ROOT, Result, scratch, trained
from tests.unit.service.bodies import write_body

CORPUS = ROOT / "tests/corpus"
WORDS = Path(__file__).with_name("fuzz.dict")
KEPT_FILES, KEPT_BYTES = 200, 2048
SEEDS = 150


def a10(models: dict[str, Path], root: Path, seconds: int = 300, *, keep: bool = False) -> Result:
    """Fuzz for some time, in a process of its own, as the fuzzer never returns."""
    seeds, found, faults = (root / name for name in ("seeds", "found", "faults"))
    for folder in (seeds, found, faults):
        folder.mkdir(parents=True)
    write_seeds(models, seeds)
    options = [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=10", "-rss_limit_mb=4096", "-seed=1"]
    child = run(
        models, [*options, f"-dict={WORDS}", f"-artifact_prefix={faults}/", str(found), str(CORPUS), str(seeds)]
    )
    inputs = max(map(int, re.findall(r"^#(\d+)", child.stderr, re.MULTILINE)), default=0)
    uncaught = [f"{path.name}: {path.read_bytes()[:200]!r}" for path in sorted(faults.iterdir())]
    kept = child.returncode == 0 and not uncaught and inputs > 0
    lines = [] if kept else [*uncaught, *child.stderr.splitlines()[-25:]]
    if keep and kept:
        minimise(models, root / "kept", [CORPUS, found, seeds])
    return Result("A10", f"{seconds} s, 0 uncaught", f"{inputs} inputs, {len(uncaught)} uncaught", kept, lines)


def run(models: dict[str, Path], arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run the fuzzer to its end."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        itself = Path(folder) / "fuzz"
        program = [sys.executable, "-m", "tests.soak.fuzz_child", str(itself), *map(str, models.values()), "--"]
        itself.write_text(f'#!/bin/sh\nexec {shlex.join(program)} "$@"\n')
        itself.chmod(0o700)
        return subprocess.run(
            [itself, *arguments], cwd=ROOT, capture_output=True, text=True, errors="replace", check=False
        )


def write_seeds(models: dict[str, Path], folder: Path) -> None:
    """Write bodies of every kind, plain and some of them compressed."""
    bodies = [*hostile.VALID, *(case.body for case in hostile.REFUSED.values()), *hostile.TRICKS.values()]
    for path in models.values():
        features = verify.read(path).manifest.features
        bodies += [write_body(features, seed) for seed in range(SEEDS)]
    bodies += [gzip.compress(hostile.VALID[0], mtime=0), zlib.compress(hostile.VALID[1])]
    bodies += [zlib.compress(hostile.VALID[2], wbits=-15)]
    for index, body in enumerate(body for body in bodies if len(body) <= KEPT_BYTES):
        (folder / str(index)).write_bytes(body)


def minimise(models: dict[str, Path], target: Path, sources: Sequence[Path]) -> None:
    """Replace the corpus by the smallest files that cover the same."""
    target.mkdir()
    merged = run(models, ["-merge=1", f"-max_len={KEPT_BYTES}", str(target), *map(str, sources)])
    chosen = sorted(target.iterdir(), key=lambda path: (path.stat().st_size, path.name))[:KEPT_FILES]
    if merged.returncode or not chosen:
        raise RuntimeError(f"the corpus could not be merged: {merged.stderr[-2000:]}")
    for path in CORPUS.iterdir():
        path.unlink()
    for path in chosen:
        shutil.copyfile(path, CORPUS / path.name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=300, help="how long (default: 300)")
    parser.add_argument("--keep", action="store_true", help="renew tests/corpus")
    given = parser.parse_args(arguments)
    with scratch() as root:
        result = a10(trained(root), root / "fuzz", given.seconds, keep=given.keep)
    print(*(f"#   {line}" for line in result.lines), sep="\n")
    print(f"{result.promise}  asked: {result.asked}  found: {result.found}{'' if result.kept else '  MISSED'}")
    return 0 if result.kept else 1


if __name__ == "__main__":
    sys.exit(main())
