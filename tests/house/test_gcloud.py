"""Every command line for gcloud that we print, run or document is one that the real gcloud takes."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from scripts.bootstrap import plan
from scripts.bootstrap.__main__ import main as bootstrap
from scripts.deploy import __main__ as deploying
from scripts.deploy import build
from scripts.monitoring.__main__ import main as monitoring
from tests.gcloud_words import refused, refused_by_bq

ROOT = Path(__file__).resolve().parents[2]
WHERE = ["--project=demo", "--region=europe-west1"]
# scripts that call gcloud with variables of the shell
SCRIPTS = (
    "scripts/deploy/steps.sh",
    "scripts/deploy/gke.sh",
    "deploy/vertex/upload.sh",
    ".github/workflows/deploy.yml",
)
CALL = re.compile(r"""\bgcloud (?:'[^'\n]*'|"[^"\n]*"|[^\n`|;)>&"'])*""")
VARIABLE = re.compile(r"\$\{?\w+(?::-\w+)?\}?|\bPROJECT\b")
needs_gcloud = pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed")
needs_bq = pytest.mark.skipif(shutil.which("bq") is None, reason="bq is not installed")


@needs_gcloud
def test_bootstrap_asks_and_makes_with_words_that_gcloud_knows(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert bootstrap([*WHERE, "--github=lab/birds", "--dry-run"], {}) == 0
    printed = [shlex.split(line) for line in capsys.readouterr().out.splitlines() if line.startswith("gcloud ")]
    asked = [step.ask for step in plan.steps("demo", "europe-west1", "lab/birds") if step.ask[0] == "gcloud"]
    assert len(printed) > len(asked) > 30

    assert refused([*printed, *asked], tmp_path) == {}


@needs_bq
def test_bootstrap_asks_and_makes_with_words_that_bq_knows(tmp_path: Path):
    steps = [step for step in plan.steps("demo", "europe-west1", "lab/birds") if step.do[0] == "bq"]
    assert steps
    for step in steps:
        assert (refused_by_bq(step.ask, tmp_path), refused_by_bq(step.do, tmp_path)) == (None, None)
    wrong = refused_by_bq([*steps[0].do[:-1], "--no-such-flag", steps[0].do[-1]], tmp_path)
    assert wrong is not None
    assert "no-such-flag" in wrong


@needs_gcloud
def test_deploying_and_monitoring_use_words_that_gcloud_knows(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    given = deploying.parser().parse_args(["submit", *WHERE])
    assert monitoring(["--project=demo", "--channel=on-call@lab.example", "--dry-run"]) == 0
    printed = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]

    words = [build.submit_command(given), deploying.open_command(given), build.secret_command("demo", "x"), *printed]
    assert refused(words, tmp_path) == {}


def calls(text: str) -> list[Sequence[str]]:
    """Find gcloud's command lines in a text; the shell's variables, and PROJECT, stand for some value."""
    found = CALL.findall(text.replace("\\\n", " "))
    return [shlex.split(VARIABLE.sub("demo", line), comments=True) for line in found]


@needs_gcloud
def test_scripts_and_documents_call_gcloud_with_words_that_it_knows(tmp_path: Path):
    document = "".join((ROOT / name).read_text() for name in ("DEPLOYMENT.md", "docs/runbooks.md"))
    texts = [re.sub(r"^ *#.*$", "", (ROOT / name).read_text(), flags=re.MULTILINE) for name in SCRIPTS]
    texts += re.findall(r"```sh\n(.*?)```", document, re.DOTALL) + re.findall(r"`(gcloud [^`]*)`", document)
    found = [words for text in texts for words in calls(text)]
    print(f"{len(found)} calls")
    # read while it is parsed
    (tmp_path / "s.yaml").write_text("kind: Service")

    assert len(found) > 20
    assert refused(found, tmp_path) == {}


@needs_gcloud
def test_a_word_that_gcloud_does_not_know_is_noticed(tmp_path: Path):
    lines = [["gcloud", "run", "services", "describe", "x", "--colour=red"], ["gcloud", "run", "services", "sing"]]
    lines += [["gcloud", "storage", "buckets", "create"], ["gcloud", "run", "services", "list"]]

    assert list(refused(lines, tmp_path)) == [shlex.join(words) for words in lines[:3]]
