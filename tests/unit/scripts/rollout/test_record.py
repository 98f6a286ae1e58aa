"""The audit record explains every verdict, and judges again."""

from __future__ import annotations

import io
import json
import subprocess
from dataclasses import replace

import pytest
import requests

from scripts.rollout import record, replay
from scripts.rollout.controller import End, OnHold
from scripts.rollout.notify import Notifier
from scripts.rollout.postmortem import commits_between, explain, postmortem
from scripts.rollout.record import CloudRecord, Record, RecordError, Tee
from scripts.rollout.state import Phase
from scripts.rollout.verdict import Verdict
from scripts.rollout.view import Lines, Screen, interval


@pytest.fixture
def bad(world, tmp_path):
    """A rollout that was rolled back at 5 %, and its record."""
    path = tmp_path / "records" / "rollouts.jsonl"
    remembered = world.recorder
    world.recorder = Tee([remembered, Record(path)])
    world.observer.health = "few"
    world.plan = replace(world.plan, step_deadline_seconds=1000)
    world.on_hold = OnHold.KEEP
    assert world.run() is End.HELD
    world.observer.health = "bad"
    assert world.run("two") is End.ROLLED_BACK
    return world, path, remembered.events


def test_what_was_recorded_is_read_back_whole(bad):
    _, path, events = bad
    assert record.read(path) == events
    assert len(path.read_text().splitlines()) == len(events)


def test_a_window_is_written_once(bad):
    _, path, _ = bad
    observed = [json.loads(line).get("observation") for line in path.read_text().splitlines()]
    assert [len(one["candidate"]) for one in observed if one] == [3, 0, 0, 0, 3]


def test_explain_says_what_decided(bad):
    _, path, _ = bad
    text = "\n".join(explain(record.read(path)))
    assert "errors unhealthy: 10.00 % of 3000 against 0.00 % of 3000" in text
    assert "evidence" in text
    assert "windows: 3 of the candidate, 3 of the stable revision of the same time" in text


def test_replay_with_the_same_thresholds_says_the_same(bad, canary):
    world, path, _ = bad
    decisions = replay.again(record.read(path), world.plan)
    assert len(decisions) > 3
    assert not any(one.differs for one in decisions)


def test_replay_with_others_may_say_something_else(bad):
    world, path, _ = bad
    rule = replace(world.plan.gates["errors"], difference_tolerated=0.5)
    lenient = replace(world.plan, gates={**world.plan.gates, "errors": rule})
    changed = [one for one in replay.again(record.read(path), lenient) if one.differs]
    assert [one.event.judgement.verdict for one in changed] == [Verdict.UNHEALTHY]


def test_a_post_mortem_has_timeline_verdicts_commits_and_metrics(bad):
    _, path, _ = bad
    text = postmortem(record.read(path), ["abc1234 model: Learn more"])
    assert text.startswith("# Rollout svc-00002-new@1000000: rolled back\n")
    for part in ("## Timeline", "moved: errors: 10.00 %", "| errors | unhealthy | 300 of 3000 |", "- abc1234 model"):
        assert part in text
    assert "give both: `--from" in postmortem(record.read(path), [])


def test_commits_between_revisions_come_from_git(tmp_path):
    def git(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.test"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True, capture_output=True)

    git("init")
    for name in ("one", "two"):
        git("commit", "--allow-empty", "-m", name)
        git("tag", name)
    assert [line.split(" ", 1)[1] for line in commits_between(tmp_path, "one", "two")] == ["two"]
    assert commits_between(tmp_path, "one", "nowhere") == []


@pytest.mark.parametrize(
    ("text", "rollout", "message"),
    [
        (None, None, "no rollout was recorded here"),
        ("", None, "no rollout"),
        ("{}\n", None, ":1: no event"),
        ("x", None, ":1: no event"),
    ],
    ids=["no-file", "empty", "no-state", "no-json"],
)
def test_a_record_that_cannot_be_read_says_where(tmp_path, text, rollout, message):
    path = tmp_path / "r.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RecordError, match=message):
        record.read(path, rollout)


def test_a_full_disk_stops_nothing(bad, tmp_path, caplog):
    _, _, events = bad
    (tmp_path / "file").write_text("")
    Record(tmp_path / "file" / "below").record(events[0])
    assert "record.failed" in caplog.text


class Hook:
    def __init__(self, status=200):
        self.posts, self.status = [], status

    def post(self, url, json, timeout):
        self.posts.append((url, json))
        if self.status == 0:
            raise requests.ConnectionError("refused")
        return type("Reply", (), {"status_code": self.status})


def test_cloud_logging_gets_the_same_without_windows(bad, caplog):
    _, _, events = bad
    session = Hook()
    for event in events:
        CloudRecord(session, "demo").record(event)
    entries = [body["entries"][0] for _, body in session.posts]
    assert len(entries) == len(events)
    assert {url for url, _ in session.posts} == {"https://logging.googleapis.com/v2/entries:write"}
    assert entries[0]["logName"] == "projects/demo/logs/rookery-rollout"
    assert "observation" not in entries[3]["jsonPayload"]
    assert (entries[0]["severity"], entries[-1]["severity"]) == ("INFO", "WARNING")
    assert "record.failed" not in caplog.text


@pytest.mark.parametrize("status", [0, 403, 503])
def test_cloud_logging_that_fails_is_passed_over(bad, caplog, status):
    CloudRecord(Hook(status), "demo").record(bad[2][0])
    assert "record.failed" in caplog.text


def test_a_webhook_is_told_of_moves_and_not_of_looks(bad):
    _, _, events = bad
    hook = Hook()
    notifier = Notifier(hook, "https://hook.test")
    for event in [*events, events[-1]]:
        notifier.record(event)
    names = [body["event"] for _, body in hook.posts]
    assert names == ["began", "moved", "held", "resumed", "moved", "verified", "ended"]
    assert hook.posts[-1][1]["phase"] == "rolled_back"


def test_a_topic_is_published_to(bad):
    hook = Hook()
    Notifier(hook, "https://pubsub.test/v1/projects/p/topics/t", is_topic=True).record(bad[2][0])
    ((url, body),) = hook.posts
    assert url.endswith("/topics/t:publish")
    assert body["messages"][0]["attributes"]["event"] == "began"


@pytest.mark.parametrize("status", [0, 500])
def test_a_webhook_that_fails_is_logged_and_forgotten(bad, status, caplog):
    Notifier(Hook(status), "https://hook.test").record(bad[2][0])
    assert "notify.failed" in caplog.text


def test_lines_for_a_log_and_json_for_a_program(bad):
    events = bad[2]
    plain, machine = io.StringIO(), io.StringIO()
    for event in events:
        Lines(plain).record(event)
        Lines(machine, is_json=True).record(event)
    assert len(plain.getvalue().splitlines()) == len(events)
    assert "  5 % judged unhealthy: errors" in plain.getvalue()
    assert json.loads(machine.getvalue().splitlines()[-1])["phase"] == Phase.ROLLED_BACK


def test_the_picture_is_drawn_over_the_one_before(bad):
    world, _, events = bad
    file = io.StringIO()
    screen = Screen(file, world.plan)
    for event in events:
        screen.record(event)
    text = file.getvalue()
    assert "[smoke] → 5 % → 20 % → 50 % → 100 %" in text
    assert "smoke → [5 %] → 20 %" in text
    assert "✗ errors" in text
    assert "\x1b[" in text
    drawn = text.split("\x1b[")[-1].splitlines()
    assert "J" in drawn[0]


def test_an_interval_closes_in():
    wide, narrow, bad = interval(-1, 1, 0.02), interval(-0.002, 0.004, 0.02), interval(0.012, 0.05, 0.02)
    assert wide == "◀" + "━" * 15 + "|" + "━" * 15 + "▶"
    assert narrow.startswith("[·")
    assert narrow.endswith("·]")
    assert bad.endswith("━▶")
    assert bad.startswith("[·")
