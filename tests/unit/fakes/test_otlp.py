"""The collector that tests send spans to understands what OpenTelemetry sends."""

from __future__ import annotations

import pytest
import requests

from tests.fakes.otlp import Collector


@pytest.mark.parametrize(("path", "fault", "status"), [("", None, 200), ("", 503, 503), ("/other", None, 404)])
def test_it_takes_an_empty_request_and_refuses_what_it_is_told_to(path, fault, status):
    with Collector() as collector:
        collector.fault = fault
        assert requests.post(collector.endpoint + path, b"", timeout=30).status_code == status
        assert (collector.requests, collector.spans) == (1, [])
