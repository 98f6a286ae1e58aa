"""Runs every real client against live servers: `python -m tests.clients [NAME ...] [--all]`."""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from model import dataset, spec, train
from tests.conftest import NO_BAR, quick_spec
from tests.integration import servers
from tests.unit.service.conftest import PLOTS_SPEC, _plots_csv

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
ENVIRONMENTS = ROOT / ".venv-clients"
MLSERVER = ROOT / ".venv-mlserver"
LIGHT = ("triton", "mlflow", "oip", "platforms")
HEAVY = ("kserve", "mlserver")
VERTEX = {"AIP_PREDICT_ROUTE": "/v1/endpoints/1:predict", "AIP_HEALTH_ROUTE": "/v1/endpoints/1"}
EXAMPLE = re.compile(r"<!-- client: (\w+) -->\n```python\n(.*?)```", re.DOTALL)
PROGRAM_SECONDS = 120


def main() -> int:
    """Make the environments, start the servers, run the clients; returns 1 if one of them fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.clients", epilog="example: python -m tests.clients triton")
    parser.add_argument("names", nargs="*", choices=[*LIGHT, *HEAVY, []], help="of the clients; all light ones if none")
    parser.add_argument("--all", action="store_true", help="the heavy ones too")
    given = parser.parse_args()
    names = given.names or [*LIGHT, *(HEAVY if given.all else ())]
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        started = [_serve(folder, "penguins", VERTEX), _serve(folder, "plots", {})]
        try:
            addresses = [f"{servers.HOST}:{server.port}" for server in started]
            for server in started:
                server.wait_until("/health/ready", 200)
            failed = [name for name in names if not _run(name, addresses)]
        finally:
            for server in started:
                server.stop()
    print(f"{len(names) - len(failed)} of {len(names)} clients" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return int(bool(failed))


def _serve(folder: Path, name: str, settings: dict[str, str]) -> servers.Server:
    """Train a small bundle and serve it."""
    path = folder / f"{name}.toml"
    if name == "plots":
        path.write_text(PLOTS_SPEC)
        (folder / "plots.csv").write_text(_plots_csv())
    else:
        path = quick_spec(name, folder)
    loaded = spec.load(path)
    bundle = train.train(loaded, dataset.load(loaded), NO_BAR, folder, quiet=True).folder
    own = folder / f"{name}-server"
    own.mkdir()
    return servers.start({"MODEL_URI": str(bundle), "MODEL_CACHE_DIR": str(own / "cache"), **settings}, own)


def _python(name: str) -> str:
    """Return the Python of a client's own environment, made if its requirements are new."""
    if name == "mlserver":
        # MLServer's client is MLServer, which is a peer of the benchmark already
        made = [f"PYTHON={sys.executable}", f"{MLSERVER.name}/.installed"]
        subprocess.run(["make", "--silent", *made], cwd=ROOT, check=True)
        return str(MLSERVER / "bin/python")
    requirements = HERE / name / "requirements.txt"
    if not requirements.exists():
        # plain requests need nothing of their own
        return sys.executable
    folder = ENVIRONMENTS / name
    stamp, digest = folder / ".requirements", hashlib.sha256(requirements.read_bytes()).hexdigest()
    python = str(folder / "bin/python")
    if not stamp.exists() or stamp.read_text() != digest:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "-r", str(requirements)]
        subprocess.run(install, check=True)
        stamp.write_text(digest)
    return python


def _run(name: str, addresses: list[str]) -> bool:
    """Run a client's program, and the examples in the documents that use it."""
    python = _python(name)
    programs = [[str(HERE / name / "speak.py"), *addresses]]
    documents = "".join(path.read_text() for path in (ROOT / "DEPLOYMENT.md", ROOT / "README.md"))
    for client, text in EXAMPLE.findall(documents):
        if client == name:
            programs.append(["-c", text.replace("127.0.0.1:8080", addresses[0])])
    for program in programs:
        done = subprocess.run([python, *program], capture_output=True, text=True, timeout=PROGRAM_SECONDS, check=False)
        shown = done.stdout.strip().splitlines()[-1:] or ["example"]
        print(f"{name}: {shown[0]}" if done.returncode == 0 else f"{name}: {done.stdout}{done.stderr}", flush=True)
        if done.returncode:
            return False
    return True


if __name__ == "__main__":
    sys.exit(main())
