"""Setting a project up, against a gcloud that remembers what it was told."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from scripts.bootstrap import plan
from scripts.bootstrap.__main__ import main

ROOT = Path(__file__).resolve().parents[4]

GITHUB = "lab/birds"
ARGUMENTS = ["--project=demo", "--region=europe-west1", f"--github={GITHUB}"]
STEPS = plan.steps("demo", "europe-west1", GITHUB)
# answers what is asked about from what was made before; whatever else is asked has an answer too
STUB = """#!{python}
import json, pathlib, sys
folder = pathlib.Path({folder!r})
words = [pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]
asks = json.loads((folder / "asks.json").read_text())
made = folder / "made"
done = made.read_text().splitlines() if made.exists() else []
key = json.dumps(words)
if "get-iam-policy" in words:
    at = words.index("get-iam-policy")
    print("roles/viewer user:somebody")
    for line in map(json.loads, done):
        if line[:at] == words[:at] and line[at : at + 2] == ["add-iam-policy-binding", words[at + 1]]:
            given = dict(word[2:].partition("=")[::2] for word in line if word.startswith("--"))
            print(given["role"], given["member"], "")
    sys.exit(0)
if key in asks:
    do, expected = asks[key]
    print("other", *expected if do in done else [], sep="\\n")
    sys.exit(0 if do in done else 1)
if "access" in words:
    print((folder / "private").read_text())
elif any("writerIdentity" in word for word in words):
    print("serviceAccount:sink@logs.iam.gserviceaccount.com")
elif any("projectNumber" in word for word in words):
    print("12345")
else:
    if "--data-file=-" in words:
        secrets = {{"rookery-signing-key": "private", "rookery-signing-public": "public"}}
        name = next((secrets[word] for word in words if word in secrets), "monitoring")
        (folder / name).write_text(sys.stdin.read())
    made.write_text("".join(line + "\\n" for line in [*done, key]))
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    asks = {json.dumps(step.ask): (json.dumps(step.do), step.expected) for step in STEPS}
    (tmp_path / "asks.json").write_text(json.dumps(asks))
    for program in ("gcloud", "bq"):
        (tmp_path / program).write_text(STUB.format(python=sys.executable, folder=str(tmp_path)))
        (tmp_path / program).chmod(0o755)
    return {"PATH": f"{tmp_path}:{os.environ['PATH']}"}


def test_twice_is_once(environment: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(ARGUMENTS, environment) == 0
    made = (tmp_path / "made").read_text()
    assert f"{len(STEPS)} of {len(STEPS)} things were made" in capsys.readouterr().out

    assert main(ARGUMENTS, environment) == 0
    assert (tmp_path / "made").read_text() == made
    assert f"0 of {len(STEPS)} things were made" in capsys.readouterr().out


def test_a_script_reads_what_was_made(environment: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main([*ARGUMENTS, "--json"], environment) == 0
    first = json.loads(capsys.readouterr().out)
    assert main([*ARGUMENTS, "--json"], environment) == 0
    again = json.loads(capsys.readouterr().out)

    assert first["made"][: len(STEPS)] == [step.name for step in STEPS]
    assert again["there"][: len(STEPS)] == first["made"][: len(STEPS)]
    assert first["github"]["ROOKERY_PROJECT"] == "demo"
    assert set(first["roles"]) < set(first["made"])

    (tmp_path / "made").unlink()
    (tmp_path / "bq").write_text("#!/bin/sh\nexit 3\n")
    assert main([*ARGUMENTS, "--json"], environment) == 1
    made = json.loads(capsys.readouterr().out)["made"]
    assert made == [step.name for step in STEPS][: len(made)]


def test_a_script_reads_a_dry_run(capsys: pytest.CaptureFixture[str]):
    assert main([*ARGUMENTS, "--dry-run", "--json"], {"PATH": ""}) == 0
    told = json.loads(capsys.readouterr().out)

    assert [one["command"] for one in told[: len(STEPS)]] == [list(step.do) for step in STEPS]


def test_the_order_is_the_plans_and_both_halves_are_of_one_key(environment: dict[str, str], tmp_path: Path):
    main(ARGUMENTS, environment)
    made = [json.loads(line) for line in (tmp_path / "made").read_text().splitlines()]

    assert made[: len(STEPS)] == [list(step.do) for step in STEPS]
    assert (tmp_path / "private").read_text().startswith("-----BEGIN ")
    assert (tmp_path / "public").read_text().startswith("-----BEGIN PUBLIC KEY-----")
    assert (tmp_path / "monitoring").read_text() == (ROOT / "deploy/monitoring/run-monitoring.yml").read_text()


def test_a_dry_run_runs_nothing_and_prints_every_command(capsys: pytest.CaptureFixture[str]):
    assert main([*ARGUMENTS, "--dry-run"], {"PATH": ""}) == 0
    said = capsys.readouterr().out

    assert said.count("\n#") + 1 == len(STEPS) + len(plan.last_rights("demo", GITHUB, "serviceAccount:x", "1"))
    assert "gcloud services enable run.googleapis.com" in said


def test_nobody_gets_a_key_file_or_a_wide_role():
    words = [word for step in STEPS for word in step.do]

    assert [word for word in words if word in ("keys create", "roles/owner", "roles/editor", "roles/run.admin")] == []
    assert not any(step.do[1:4] == ("iam", "service-accounts", "keys") for step in STEPS)
    rights = {step.name for step in STEPS if "rookery-runtime" in step.name and step.name.startswith("roles/storage")}
    assert rights == {
        "roles/storage.objectViewer on gs://demo-rookery-models for "
        "serviceAccount:rookery-runtime@demo.iam.gserviceaccount.com"
    }


def test_a_step_that_fails_is_named(environment: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "bq").write_text("#!/bin/sh\nexit 3\n")

    assert main(ARGUMENTS, environment) == 1
    assert "`bq --project_id=demo" in capsys.readouterr().err
