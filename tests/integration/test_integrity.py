"""The promises about model integrity, as `make soak-integrity` but smaller: counts are asserted, times are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.cache import Cache
from tests.fakes.gcs import FakeStorage, Fault
from tests.soak import integrity
from tests.soak.integrity_stock import Stock, await_fetches, client_of, load, make, problems, put

PROMISES = ["M1", "M4", "M5", "M6", "M7", "M8"]


@pytest.fixture(scope="module")
def stock(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Stock:
    """Signed bundles of one contract."""
    return make(tmp_path_factory.mktemp("stock"), bundles["penguins"], bundles["iris"])


@pytest.mark.parametrize("promise", PROMISES)
def test_promise_is_kept(stock: Stock, promise: str, monkeypatch: pytest.MonkeyPatch):
    # the client's background look at the bucket is not what is tried here
    monkeypatch.setenv("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    result = integrity.QUICK[promise](stock)

    print(result.promise, result.asked, result.found, *result.lines, sep="\n")
    assert result.kept, "\n".join([result.found, *result.lines])


def test_stand_in_is_left_an_eighth_of_the_time(stock: Stock, tmp_path: Path):
    with FakeStorage() as fake, client_of(fake.url) as client:
        uri = put(fake, stock.new)
        fake.faults.add(Fault("stall", "model.onnx", at=0, times=None))
        settings = stock.settings(stock.seed(tmp_path / "cache"), uri, stock.new.name, load_seconds=1)
        state = load(settings, client)
        fake.stop()
        await_fetches()

    expected = [("fetch_timeout", "the bundle did not arrive within 0.875 seconds"), (None, None)]
    assert expected == [(attempt.code, attempt.reason) for attempt in state.attempts]


def test_what_a_killed_process_left_is_swept_once_it_is_old(stock: Stock, tmp_path: Path):
    cache = stock.seed(tmp_path / "cache")
    left = cache / "bundles" / ".writing-abc"
    left.mkdir()
    (left / "model.json").write_bytes(b"half")
    (cache / ".writing-def").write_bytes(b"half")
    now = left.stat().st_mtime

    Cache(cache, lambda: now + 60).remember(stock.old.name)
    found_young = problems(cache, stock.keys)
    Cache(cache, lambda: now + 3600).remember(stock.old.name)

    expected = ["left over: .writing-abc", "left over: .writing-def"]
    assert expected == sorted(found_young)
    assert not problems(cache, stock.keys)
