"""What a run shows: two plain tables, and a file for the load report."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from load import processes
from load.servers import PEERS, ROOT
from load.verdicts import Judged, Samples

if TYPE_CHECKING:
    from load.parts import Bench

PACKAGES = ("gunicorn", "flask", "marshmallow", "numpy", "onnxruntime", "orjson", "uvloop")
PEER_PACKAGES = ("fastapi", "uvicorn", "pydantic", "onnxruntime", "numpy", "orjson", "uvloop", "pandas", "xgboost-cpu")


def _milliseconds(value: float) -> str:
    return f"{value * 1000:.2f} ms"


def _microseconds(value: float) -> str:
    return f"{value * 1e6:.2f} µs"


# measure → how it is called, how it is shown, and the measure of the processor time beside it
SHOWN: dict[str, tuple[str, Callable[[float], str], str | None]] = {
    "rate": ("one row", lambda value: f"{value:.0f} /s", "cpu"),
    "p50": ("p50 at the common rate", _milliseconds, None),
    "p99": ("p99 at the common rate", _milliseconds, None),
    "batch_rate": ("batches of 1,000 rows", lambda value: f"{value:.1f} /s", "batch_cpu"),
    "tensor_rate": ("batches of 1,000 rows in tensors", lambda value: f"{value:.1f} /s", "tensor_cpu"),
    "row_of_1000": ("a row of 1,000", _microseconds, None),
    "row_of_10000": ("a row of 10,000", _microseconds, None),
    "start": ("cold start", lambda value: f"{value:.3f} s", None),
    "cpu_ours": ("CPU of a prediction", _microseconds, None),
    "cpu_engine": ("CPU of the engine alone", _microseconds, None),
    "growth_cpu_ours": ("growth of a prediction", lambda value: f"{value:.2f}", None),
    "growth_cpu_engine": ("growth of the engine", lambda value: f"{value:.2f}", None),
    "pss": ("memory (PSS)", lambda value: f"{value / 1e6:.1f} MB", None),
}


def measured(samples: Samples) -> str:
    """Lay out medians with their spread and the processor time of each request."""
    rows = [("what", "server", "median", "spread", "CPU µs each")]
    for measure, (title, show, cpu) in SHOWN.items():
        for server, found in samples.items():
            values = found.get(measure)
            if not values:
                continue
            spent = found.get(cpu) if cpu else None
            spread = f"{show(min(values))} – {show(max(values))}"
            shown = f"{statistics.median(spent) * 1e6:.0f}" if spent else ""
            rows.append((title, server, show(statistics.median(values)), spread, shown))
    return table(rows)


def ratios(judged: Sequence[Judged]) -> str:
    """Lay out the ratios with their bounds."""
    rows = [("ratio", "measured", "spread", "must", "aim", "verdict")]
    for found in judged:
        sign = "≥" if found.demand.at_least else "≤"
        bounds = (f"{sign} {found.demand.must:g}", f"{sign} {found.demand.aim:g}")
        spread = f"{found.lowest:.2f} – {found.highest:.2f}"
        rows.append((found.demand.name, f"{found.ratio:.2f}", spread, *bounds, found.verdict))
    return table(rows)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Align columns: the first two to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:], ""])


def write(path: Path, bench: Bench, judged: Sequence[Judged], command: Sequence[str]) -> None:
    """Write everything down."""
    document = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": list(command),
        "commit": commit(),
        "machine": machine(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "peer_versions": peer_versions(),
        "bundle": bench.bundle.digest,
        "options": {
            "rounds": bench.rounds,
            "seconds": bench.seconds,
            "connections": bench.connections,
            "starts": bench.starts,
            "predictions": bench.predictions,
        },
        "samples": bench.samples,
        "ratios": [asdict(found) for found in judged],
        "notes": bench.notes,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def machine() -> Mapping[str, object]:
    """Describe the machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": len(processes.CORES),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
    }


def commit() -> str:
    """Return the commit, with `-dirty` if files differ from it."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def peer_versions() -> Mapping[str, str]:
    """Ask the peers' environment what is installed in it."""
    program = (
        f"import json; from importlib.metadata import version; "
        f"print(json.dumps({{name: version(name) for name in {PEER_PACKAGES!r}}}))"
    )
    found = subprocess.run([str(PEERS), "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    return dict(json.loads(found.stdout)) if found.returncode == 0 else {}
