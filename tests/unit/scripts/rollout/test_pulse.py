"""What says that a controller is there: not too often, and never a share that is not there any more."""

from __future__ import annotations

import itertools
import signal
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import requests

from scripts.rollout import wiring
from scripts.rollout.controller import End
from scripts.rollout.platform import Target
from scripts.rollout.pulse import METRICS, MonitoringSink, Pulse, PushgatewaySink
from scripts.rollout.record import Tee
from tests.fakes.cloudrun import CloudRun
from tests.fakes.cloudrun_monitoring import HOST
from tests.fakes.platform import NEW, OLD


class Sink:
    """Keeps what is sent; fails while `trouble` is set."""

    def __init__(self) -> None:
        self.sent: list[tuple[float, float]] = []
        self.trouble = ""

    def send(self, percent: float, now_seconds: float) -> str:
        self.sent.append((now_seconds, percent))
        return self.trouble


@pytest.fixture
def beating(world):
    """A world whose controller has a pulse."""
    sink = Sink()
    pulse = Pulse(sink, world.clock)
    world.recorder = Tee([world.recorder, pulse])
    return world, pulse, sink


@pytest.mark.parametrize(("health", "end"), [("good", End.PROMOTED), ("bad", End.ROLLED_BACK), ("few", End.HELD)])
def test_the_last_that_is_said_is_that_nothing_is_left_to_judge(beating, health, end):
    world, pulse, sink = beating
    world.observer.health = health
    assert world.run() is end
    pulse.close()
    assert sink.sent[-1][1] == 0
    assert any(percent > 0 for _, percent in sink.sent)
    times = [seconds for seconds, _ in sink.sent]
    assert all(later - earlier >= 5 for earlier, later in itertools.pairwise(times))
    assert all(later - earlier < 600 for earlier, later in itertools.pairwise(times))


@pytest.mark.parametrize(("moved", "said"), [({OLD: 60, NEW: 40}, 40), ({NEW: 100}, 0)], ids=str)
def test_traffic_that_a_person_split_is_said_and_what_a_person_decided_is_not(beating, moved, said):
    world, pulse, sink = beating
    targets = tuple(Target(name, percent) for name, percent in moved.items())
    record = world.recorder.record

    def move(event):
        record(event)
        if (event.name, event.percent) == ("moved", 20):
            world.platform.put((*targets, Target(NEW, 0, "candidate")))

    world.recorder.record = move
    assert world.run() is End.STOOD_DOWN
    pulse.close()
    assert sink.sent[-1][1] == said


def test_a_failure_is_logged_once_and_tried_again(beating, caplog):
    world, pulse, sink = beating
    sink.trouble = "403"
    assert world.run() is End.PROMOTED
    pulse.close()
    assert [one.message for one in caplog.records].count("pulse.failed") == 1
    assert len(sink.sent) > 5


def test_cloud_monitoring_takes_the_points_and_one_in_five_seconds(tmp_path, monkeypatch):
    with CloudRun({}) as cloud:
        environment = cloud.environment(tmp_path)
        monkeypatch.setenv("http_proxy", environment["http_proxy"])
        monkeypatch.setenv("no_proxy", environment["no_proxy"])
        session = requests.Session()
        session.headers["Authorization"] = "Bearer t"
        sink = MonitoringSink(session, "demo", "us-central1", "x", f"http://{HOST}/")
        assert sink.send(20, 1_000.0) == ""
        assert "more frequently" in sink.send(50, 1_003.0)
        assert sink.send(0, 1_006.0) == ""
        kept = cloud.points.kept
    assert kept == {
        f"custom.googleapis.com/{METRICS[0]}": [(1_000.0, 20), (1_006.0, 0)],
        f"custom.googleapis.com/{METRICS[1]}": [(1_000.0, 1_000.0), (1_006.0, 1_006.0)],
    }


def test_a_pushgateway_gets_text_and_nobody_there_is_no_exception():
    got: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            got.append((self.path, self.rfile.read(int(self.headers["Content-Length"])).decode()))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        sink = PushgatewaySink(requests.Session(), f"http://127.0.0.1:{server.server_port}/", "x")
        assert sink.send(20, 1_000.0) == ""
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert got == [
        (
            "/metrics/job/rookery-rollout/service/x",
            f"# TYPE {METRICS[0]} gauge\n{METRICS[0]} 20\n# TYPE {METRICS[1]} gauge\n{METRICS[1]} 1000.0\n",
        )
    ]
    assert sink.send(20, 1_060.0) != ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_interrupts_once_and_not_what_is_done_about_it(number):
    before = signal.getsignal(number)
    done = False
    with wiring.interruptible():
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            for again in (signal.SIGTERM, signal.SIGINT):
                signal.raise_signal(again)
            done = True
    assert done
    assert signal.getsignal(number) is before
