"""The real server starts from a bucket, with the real client: what comes wrong is never served, and nothing twice."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from model import bundle, publish, verify
from model.store import parse
from tests.fakes.gcs import FakeStorage, Fault
from tests.fakes.gcs import fake_storage as fake_storage

from . import hostile, servers
from .conftest import Start
from .servers import DEADLINE_SECONDS, ROOT, Server

ADELIE = hostile.ADELIE
FILES = {"manifest.json", "model.json", "model.onnx"}
PHASES = {"imports", "fetch", "verify", "load", "golden", "listen", "total"}

Upload = Callable[[Path], dict[str, str]]
Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def old(bundles: dict[str, Path]) -> Path:
    """A bundle, serial 1."""
    return bundles["penguins"]


@pytest.fixture(scope="module")
def new(old: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The next bundle of the same contract."""
    read = verify.read(old)
    changed = msgspec.structs.replace(read.manifest, version="2", serial=2)
    return bundle.write(tmp_path_factory.mktemp("new"), changed, read.files).folder


@pytest.fixture
def upload(fake_storage: FakeStorage) -> Iterator[Upload]:
    """A bundle folder → the environment that pins it in the fake bucket."""
    fake_storage.create_bucket("models")
    with fake_storage.client() as client:

        def upload(folder: Path) -> dict[str, str]:
            address, digest = publish.upload(folder, parse("gs://models/penguins"), quiet=True, client=client)
            return {**fake_storage.environment(), "MODEL_URI": str(address), "MODEL_DIGEST": digest}

        yield upload


def as_fallback(pinned: Mapping[str, str]) -> dict[str, str]:
    return {"MODEL_FALLBACK_URI": pinned["MODEL_URI"], "MODEL_FALLBACK_DIGEST": pinned["MODEL_DIGEST"]}


def damage(fake: FakeStorage, folder: Path, file: str) -> None:
    """Turn over one bit in the middle of an object."""
    name = f"penguins/{folder.name}/{file}"
    payload = bytearray(fake.get("models", name))
    payload[len(payload) // 2] ^= 1
    fake.put("models", name, bytes(payload))


def downloads(fake: FakeStorage, since: int) -> dict[str, int]:
    """How often each object was asked for, by its file name."""
    return Counter(seen.name.rpartition("/")[2] for seen in fake.requests[since:] if seen.op == "media")


def events(server: Server, name: str) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, server.stdout_lines) if line["message"] == name]


def scrape(server: Server) -> Samples:
    text = server.get("/metrics").body.decode()
    families = text_string_to_metric_families(text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(samples: Samples, name: str, **labels: str) -> float:
    """The only sample of a name that has at least these labels."""
    (found,) = [v for (key, has), v in samples.items() if key == name and labels.items() <= set(has)]
    return found


def attempts(server: Server) -> list[tuple[str, str | None]]:
    return [(attempt["origin"], attempt.get("code")) for attempt in server.get("/model").json()["attempts"]]


# --- the pinned bundle


def test_cold_start_from_the_bucket_is_ready_and_tells_every_phase(
    start: Start, upload: Upload, fake_storage: FakeStorage, old: Path
) -> None:
    settings = upload(old)
    since = len(fake_storage.requests)
    server = start(settings)
    ready = server.wait_until("/health/ready", 200)
    samples = scrape(server)
    (line,) = events(server, "service.started")

    assert ready.json()["digest"] == settings["MODEL_DIGEST"]
    assert server.predict(ADELIE).json()["model"]["fallback"] is False
    assert "x-model-fallback" not in ready.headers
    assert downloads(fake_storage, since) == dict.fromkeys(FILES, 1)
    assert {name.removesuffix("_seconds") for name in line if name.endswith("_seconds")} == PHASES
    assert {dict(labels)["phase"] for name, labels in samples if name == "rookery_cold_start_seconds"} == PHASES
    assert value(samples, "rookery_model_info", origin="pinned", digest=settings["MODEL_DIGEST"], version="1") == 1
    assert (value(samples, "rookery_model_fallback"), value(samples, "rookery_model_ready")) == (0, 1)
    assert attempts(server) == [("pinned", None)]


def test_second_start_downloads_nothing(
    start: Start, upload: Upload, fake_storage: FakeStorage, old: Path, tmp_path: Path
) -> None:
    settings = {**upload(old), "MODEL_CACHE_DIR": str(tmp_path / "cache")}
    first = start(settings)
    first.wait_until("/health/ready", 200)
    assert first.stop() == 0
    since = len(fake_storage.requests)
    second = start(settings)
    second.wait_until("/health/ready", 200)

    assert attempts(second) == [("pinned", None)]
    assert fake_storage.requests[since:] == ()


def test_bundle_in_the_image_with_the_pinned_digest_is_served_without_a_download(
    start: Start, upload: Upload, fake_storage: FakeStorage, old: Path
) -> None:
    settings = {**upload(old), "ROOKERY_BAKED_BUNDLE": str(old)}
    since = len(fake_storage.requests)
    server = start(settings)
    server.wait_until("/health/ready", 200)

    assert attempts(server) == [("pinned", None)]
    assert fake_storage.requests[since:] == ()


def test_two_servers_that_start_at_once_on_an_empty_cache_download_once(
    start: Start, upload: Upload, fake_storage: FakeStorage, old: Path, tmp_path: Path
) -> None:
    settings = {**upload(old), "MODEL_CACHE_DIR": str(tmp_path / "cache")}
    # whoever is first still waits for its manifest while the other one arrives
    fake_storage.faults.add(Fault("slow-start", match="manifest.json", seconds=1))
    since = len(fake_storage.requests)
    pair = [start(settings), start(settings)]
    for server in pair:
        server.wait_until("/health/ready", 200)

    assert [attempts(server) for server in pair] == [[("pinned", None)]] * 2
    assert downloads(fake_storage, since) == dict.fromkeys(FILES, 1)


def test_two_workers_of_one_server_download_once(
    start: Start, upload: Upload, fake_storage: FakeStorage, old: Path
) -> None:
    settings = {**upload(old), "ROOKERY_WORKERS": "2"}
    since = len(fake_storage.requests)
    server = start(settings)
    server.wait_for_workers(lambda _: len(events(server, "service.started")) == 2)

    assert [line["origin"] for line in events(server, "model.loaded")] == ["pinned"] * 2
    assert downloads(fake_storage, since) == dict.fromkeys(FILES, 1)


def test_master_has_neither_threads_nor_connections_of_its_own(start: Start, upload: Upload, old: Path) -> None:
    server = start(upload(old))
    server.wait_until("/health/ready", 200)

    assert len(list(Path(f"/proc/{server.pid}/task").iterdir())) == 1


# --- what stands in for it


@pytest.mark.parametrize(
    ("file", "code"), [("model.onnx", "hash_mismatch"), ("manifest.json", "digest_mismatch")], ids=["model", "manifest"]
)
def test_empty_disk_and_corrupt_object_serve_the_fallback_and_say_so_everywhere(
    start: Start, upload: Upload, fake_storage: FakeStorage, old: Path, new: Path, file: str, code: str
) -> None:
    fallback = as_fallback(upload(old))
    pinned = upload(new)
    damage(fake_storage, new, file)
    server = start({**pinned, **fallback})
    ready = server.wait_until("/health/ready", 200)
    answer = server.predict(ADELIE)
    refusal = server.predict(b"[")
    samples = scrape(server)

    assert ready.json()["digest"] == fallback["MODEL_FALLBACK_DIGEST"]
    assert (answer.status, answer.json()["model"]["fallback"]) == (200, True)
    assert [a.headers["x-model-fallback"] for a in (ready, answer, refusal)] == ["fallback"] * 3
    assert server.get("/model").json()["fallback"] is True
    assert attempts(server) == [("pinned", code), ("fallback", None)]
    assert value(samples, "rookery_model_fallback") == 1
    assert value(samples, "rookery_model_info", origin="fallback", digest=fallback["MODEL_FALLBACK_DIGEST"]) == 1
    assert [(line["severity"], line["origin"], line["code"]) for line in events(server, "model.refused")] == [
        ("ERROR", "pinned", code)
    ]
    assert [
        (line["severity"], line["origin"], line["pinned_code"]) for line in events(server, "model.fallback_in_use")
    ] == [("WARNING", "fallback", code)]


def test_last_known_good_one_serves_when_the_next_one_is_corrupt(
    start: Start, upload: Upload, fake_storage: FakeStorage, old: Path, new: Path, tmp_path: Path
) -> None:
    cache = {"MODEL_CACHE_DIR": str(tmp_path / "cache")}
    first = start({**upload(old), **cache})
    first.wait_until("/health/ready", 200)
    assert first.stop() == 0
    pinned = upload(new)
    damage(fake_storage, new, "model.onnx")
    second = start({**pinned, **cache})
    ready = second.wait_until("/health/ready", 200)

    assert attempts(second) == [("pinned", "hash_mismatch"), ("last_known_good", None)]
    assert (ready.headers["x-model-fallback"], ready.json()["digest"]) == ("last_known_good", f"sha256:{old.name}")


@pytest.mark.parametrize("more", [{}, {"ALLOW_FALLBACK": "false"}], ids=["there is none", "none is allowed"])
def test_empty_disk_and_corrupt_object_without_a_fallback_are_not_ready_for_a_reason(
    start: Start, upload: Upload, fake_storage: FakeStorage, old: Path, new: Path, more: dict[str, str]
) -> None:
    fallback = as_fallback(upload(old)) if more else {}
    pinned = upload(new)
    damage(fake_storage, new, "model.onnx")
    server = start({**pinned, **fallback, **more})
    server.wait_until("/health/live", 200)

    for refusal in (server.get("/health/ready"), server.predict(ADELIE), server.get("/model")):
        assert (refusal.status, refusal.json()["reason"]) == (503, "hash_mismatch")
    samples = scrape(server)
    assert value(samples, "rookery_model_ready") == 0
    assert [name for name, _ in samples if name in ("rookery_model_info", "rookery_model_fallback")] == []
    assert len(events(server, "service.started")) == 1


@pytest.mark.parametrize("name", ["MODEL_URI", "MODEL_FALLBACK_URI"])
def test_unpinned_bundle_in_a_bucket_stops_the_start_with_the_line_to_add(name: str) -> None:
    digest = "0123456789abcdef" * 4
    result = subprocess.run(
        servers.command(),
        cwd=ROOT,
        env=servers.environment({name: f"gs://models/penguins/{digest}/"}),
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )

    assert result.returncode != 0
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert f"add {name.replace('URI', 'DIGEST')}=sha256:{digest} or MODEL_PUBLIC_KEY" in result.stderr
