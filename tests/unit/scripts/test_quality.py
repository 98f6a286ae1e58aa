"""Truths find their predictions, and the figures are those of a calculation by hand."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from model.verify import VerifiedBundle
from scripts.quality.__main__ import NOTHING, PRINTED, REFUSED, main
from scripts.quality.events import join
from scripts.quality.figures import drifted, figures, share
from scripts.quality.sources import filter_for
from tests.conftest import ROOT
from tests.fakes.cloud_logging import CloudLogging, serving

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def _made(
    request_id: str, *labels: str, digest: str = A, confidence: float = 0.9, **extra: object
) -> dict[str, object]:
    rows = [
        {"row": row, "label": label, "confidence": confidence, "prediction_set": [label], "bins": {}, **extra}
        for row, label in enumerate(labels)
    ]
    return {"message": "prediction.made", "request_id": request_id, "digest": digest, "predictions": rows}


def _told(request_id: str, label: str, **extra: object) -> dict[str, object]:
    return {"message": "feedback.received", "request_id": request_id, "label": label, **extra}


def test_truths_find_their_predictions_in_any_order():
    events = [
        _told("1", "x"),
        _made("1", "x"),
        _made("2", "y", digest=B),
        _told("2", "x"),
        _told("3", "x"),
        {"message": "request.slow"},
    ]
    joined = join(events)
    assert {digest: [one.is_right for one in found] for digest, found in joined.outcomes.items()} == {
        A: [True],
        B: [False],
    }
    assert (len(joined.predictions), joined.unmatched, joined.skipped) == (2, 1, 0)


def test_a_row_of_a_batch_is_found_and_the_last_truth_holds():
    joined = join([_made("1", "x", "y"), _told("1", "x", row=1), _told("1", "y", row=1), _told("1", "z", row=2)])
    assert ([one.truth for one in joined.outcomes[A]], joined.unmatched) == (["y"], 1)


@pytest.mark.parametrize(
    "event",
    [
        {"message": "prediction.made", "request_id": "1"},
        {"message": "prediction.made", "request_id": "1", "digest": A, "predictions": 3},
        _made("1", "x", confidence="much"),
        {"message": "feedback.received", "label": "x"},
        _told("1", "x", row="first"),
    ],
)
def test_an_event_that_is_not_one_is_counted(event):
    assert join([event]).skipped == 1


def test_the_figures_are_those_of_a_calculation_by_hand():
    drawn = random.Random(4)
    events, right, covered = [], 0, 0
    for number in range(400):
        truth = drawn.choice("xy")
        label = truth if drawn.random() < 0.8 else "z"
        members = ["x", "y"] if drawn.random() < 0.5 else [label]
        right, covered = right + (label == truth), covered + (truth in members)
        events += [_made(str(number), label, confidence=0.75, prediction_set=members), _told(str(number), truth)]
    found = figures(join(events).outcomes[A])

    assert (found.rows, found.accuracy.value, found.coverage.value) == (400, right / 400, covered / 400)
    assert found.confidence == pytest.approx(0.75)
    assert found.calibration_error.value == pytest.approx(abs(0.75 - right / 400))
    assert found.calibration_error.low <= found.calibration_error.value <= found.calibration_error.high
    assert sum(found.confusion.values()) == 400


@pytest.mark.parametrize(("count", "total"), [(0, 1), (1, 1), (7, 9), (0, 50), (393, 400), (5_000, 10_000)])
def test_intervals_are_wilsons(count, total):
    theirs = stats.binomtest(count, total).proportion_ci(method="wilson")
    ours = share(count, total)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-6)


def test_calibrated_confidence_has_an_interval_that_reaches_to_nothing():
    drawn = np.random.default_rng(6)
    confidences = drawn.uniform(0.5, 1.0, 2_000)
    events = []
    for number, confidence in enumerate(confidences.tolist()):
        truth = "x" if drawn.random() < confidence else "y"
        events += [_made(str(number), "x", confidence=confidence), _told(str(number), truth)]
    error = figures(join(events).outcomes[A]).calibration_error
    assert (error.low < 0.02, error.high < 0.06) == (True, True)


def test_drift_is_judged_from_the_bins_that_the_log_tells(penguins: VerifiedBundle):
    manifest = penguins.manifest
    lowest = {feature.name: "0" for feature in manifest.features}
    events = [_made(str(number), "Adelie", bins=lowest) for number in range(200)]
    verdict = drifted(manifest, list(join(events).predictions.values()))
    assert verdict.verdict == "drifting"
    assert {one.rows for one in verdict.findings} == {200}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A file as the service and Gunicorn write it."""
    path = tmp_path / "log.jsonl"
    events = [_made(str(n), "x") for n in range(20)] + [_told(str(n), "x" if n else "y") for n in range(20)]
    path.write_text("not JSON\n[1]\n" + "".join(json.dumps(event) + "\n" for event in events))
    return path


def test_a_file_is_read_and_people_get_lines(log, capsys):
    assert main([str(log)]) == PRINTED
    out = capsys.readouterr().out
    assert f"{A}  20 rows whose truth is known" in out
    assert "accuracy           0.950  (0.764 to 0.991)" in out
    assert "y taken for x: 1" in out


def test_programs_get_json_with_drift(log, capsys, bundles: dict[str, Path]):
    assert main(["--json", "--bundle", str(bundles["penguins"]), str(log)]) == PRINTED
    found = json.loads(capsys.readouterr().out)
    assert (found["bundles"][A]["rows"], found["predictions"], found["unmatched"]) == (20, 20, 0)
    assert found["drift"]["verdict"] == "too_few"


def test_entries_as_gcloud_writes_them_are_unwrapped(log, tmp_path, capsys):
    entries = [{"jsonPayload": json.loads(line)} for line in log.read_text().splitlines()[2:]]
    wrapped = tmp_path / "entries.json"
    wrapped.write_text(json.dumps(entries))
    assert main(["--json", str(wrapped)]) == PRINTED
    assert json.loads(capsys.readouterr().out)["bundles"][A]["rows"] == 20


def test_cloud_logging_is_read_by_its_own_client(log, capsys):
    events = [json.loads(line) for line in log.read_text().splitlines()[2:]]
    with serving(CloudLogging(events)) as fake:
        command = ["--project", "lab", "--service", "rookery", "--since", "90m", "--endpoint", fake.url, "--json"]
        assert main(command) == PRINTED
    assert json.loads(capsys.readouterr().out)["bundles"][A]["rows"] == 20
    assert len(fake.asked) == 14
    assert fake.asked[0]["resourceNames"] == ["projects/lab"]
    assert 'resource.labels.service_name="rookery"' in fake.asked[0]["filter"]


def test_cloud_logging_may_refuse(capsys):
    with serving(CloudLogging(status=403)) as fake:
        assert main(["--project", "lab", "--endpoint", fake.url]) == REFUSED
    assert capsys.readouterr().err.startswith("error: Cloud Logging of lab: 403 ")


def test_the_query_cannot_be_broken_out_of():
    text = filter_for('a" OR severity="INFO', datetime(2026, 1, 2, tzinfo=UTC))
    assert 'service_name="a\\" OR severity=\\"INFO"' in text
    assert 'timestamp>="2026-01-02T00:00:00+00:00"' in text


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        ([], REFUSED, "give files, or --project and --service"),
        (["a", "--project", "b"], REFUSED, "give files, or --project and --service"),
        (["--project", "b", "--since", "1y"], REFUSED, "must be a span such as 90m"),
        (["/nowhere/at/all"], REFUSED, "error: /nowhere/at/all: No such file"),
        ([str(ROOT / "README.md")], NOTHING, ""),
        ([str(ROOT / "README.md"), "--bundle", "/nowhere"], REFUSED, "error: "),
    ],
)
def test_exit_statuses(arguments, status, text):
    done = subprocess.run(
        [sys.executable, "-m", "scripts.quality", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, "Traceback" in done.stderr) == (status, False)
    assert text in done.stderr


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert (ended.value.code, "python -m scripts.quality --project" in capsys.readouterr().out) == (0, True)
