"""A real server whose operations have a port of their own: each port answers what is its own, through every door."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from model.manifest import example
from model.verify import VerifiedBundle

from .servers import DEADLINE_SECONDS, Server, reserve_port


@pytest.mark.parametrize("door", ["short", "Flask"])
def test_metrics_and_feedback_have_a_port_of_their_own(start, bundles: dict[str, Path], penguins: VerifiedBundle, door):
    row = example(penguins.manifest)
    with closing(reserve_port()) as reservation:
        ops_port = reservation.getsockname()[1]
        server: Server = start(
            {
                "MODEL_URI": str(bundles["penguins"]),
                "FAST_PATH": "true" if door == "short" else "false",
                "ROOKERY_OPS_PORT": str(ops_port),
                "ROOKERY_FEEDBACK": "true",
                "ROOKERY_WORKERS": "2",
            }
        )
        ops = replace(server, port=ops_port)
        server.wait_until("/health/ready", 200)
        ops.wait_until("/health/ready", 200)
        assert [server.predict(row).status for _ in range(3)] == [200, 200, 200]
        assert ops.predict(row).status == 404
        assert [server.get(path).status for path in ("/metrics", "/model/drift", "/feedback")] == [404, 404, 404]
        assert [ops.get(path).status for path in ("/metrics", "/model/drift", "/model", "/")] == [200, 200, 404, 404]
        # any worker tells what all have done, a second later at the latest
        deadline = time.monotonic() + DEADLINE_SECONDS
        while "\nrookery_confidence_count 3.0\n" not in ops.get("/metrics").body.decode():
            assert time.monotonic() < deadline
        server.stop()
