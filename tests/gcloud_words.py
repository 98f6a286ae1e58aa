"""Has the real gcloud parse command lines, without running one: `python -m tests.gcloud_words < lines`.

gcloud's own command tree, in gcloud's own Python, reads every line as it would before it does anything: unknown
commands and flags, values of the wrong form, and required ones that are missing are refused.  Nothing is sent.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

# runs in gcloud's Python: reads command lines as JSON, prints what is refused
PARSER = """
import io, json, sys
root = sys.argv[1]
# before gcloud is imported: it keeps the streams that it found
answers, sys.stdout, sys.stderr = sys.stdout, io.StringIO(), io.StringIO()
sys.path[:0] = [root + "/lib", root + "/lib/third_party"]
from googlecloudsdk import gcloud_main
parser = gcloud_main.CreateCLI([])._CLI__parser
for words in json.load(sys.stdin):
    sys.stderr.seek(0)
    sys.stderr.truncate()
    said = None
    try:
        found = parser.parse_args(words[1:])
        if found.CONCEPT_ARGS is not None:
            found.CONCEPT_ARGS.ParseConcepts()
    except SystemExit:
        said = sys.stderr.getvalue()
    except Exception as error:
        said = str(error)
    print(json.dumps(said), file=answers, flush=True)
"""


# what bq says once it has understood a command line and nobody has logged in
WITHOUT_ACCOUNT = "select an already authenticated account"


def _root() -> Path:
    """Return the folder of the Google Cloud SDK."""
    found = shutil.which("gcloud")
    assert found, "gcloud is not installed"
    return Path(found).resolve().parents[1]


def _run(words: Sequence[str], folder: Path, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run the SDK's Python where nobody has logged in."""
    bundled = _root() / "platform/bundledpythonunix/bin/python3"
    python = str(bundled) if bundled.exists() else sys.executable
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "CLOUDSDK_CONFIG": str(folder / "gcloud")}
    environment["CLOUDSDK_CORE_PROJECT"] = "demo"
    command = [python, *words]
    return subprocess.run(command, input=text, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def refused_by_bq(words: Sequence[str], folder: Path) -> str | None:
    """Return why the installed bq does not take a command line, None if it takes it.

    Args:
        words: with `bq` as the first one.
        folder: the SDK's files go there.
    """
    # an address where nobody is, should it ever ask
    program = [str(_root() / "platform/bq/bq.py"), "--api", "http://127.0.0.1:9"]
    done = _run([*program, *words[1:]], folder)
    said = done.stdout + done.stderr
    return None if WITHOUT_ACCOUNT in said else said


def refused(commands: Iterable[Sequence[str]], folder: Path) -> dict[str, str]:
    """Return the command lines that the installed gcloud does not take, and why.

    Args:
        commands: each with `gcloud` as its first word.
        folder: files in them are named from here; gcloud's own go there too.
    """
    lines = [list(words) for words in commands]
    done = _run(["-c", PARSER, str(_root())], folder, json.dumps(lines))
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(lines), done.stderr
    return {shlex.join(words): said for words, said in zip(lines, answers, strict=True) if said is not None}
