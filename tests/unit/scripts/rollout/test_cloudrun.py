"""The door to Cloud Run, against a local one: compare-and-swap, and what is done when it lies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from scripts.deploy import revision
from scripts.deploy.release import Release
from scripts.rollout.cloudrun import CloudRun as Platform
from scripts.rollout.cloudrun import Place, Services
from scripts.rollout.platform import Conflict, Refused, Service, Target, Unavailable
from tests.fakes.cloudrun import CloudRun, Fault

ROOT = Path(__file__).resolve().parents[4]
TEMPLATE = yaml.safe_load((ROOT / "deploy/cloudrun/service.yaml").read_text())
DIGEST = "sha256:" + "a" * 64


def release(name: str, image: str = "registry.test/rookery:1") -> Release:
    return Release("x", name, image, "gs://b/x", DIGEST, "rookery-runtime@demo.iam.gserviceaccount.com", "demo", {})


@pytest.fixture
def platform(services: Services) -> Platform:
    """A service whose stable revision is x-1 and whose candidate is x-2."""
    for name in ("x-1", "x-2"):
        revision.deploy(services, TEMPLATE, release(name))
    return Platform(services, "x")


def with_shares(service: Service, stable: int, candidate: int) -> Service:
    traffic = (Target("x-1", stable), Target("x-2", candidate, tag="candidate"))
    return replace(service, traffic=traffic, annotations={"rookery.dev/rollout": str(candidate)})


def test_a_service_is_read_as_it_is_served(cloud: CloudRun, platform: Platform):
    service = platform.read()

    assert service.traffic == (
        Target("x-1", 100),
        Target("x-2", 0, tag="candidate", url=cloud.url("x", "candidate")),
    )
    assert (service.name, service.url, service.latest_ready_revision) == ("x", cloud.url("x"), "x-2")
    assert service.annotations == {"rookery.dev/candidate": "x-2", "rookery.dev/candidate-digest": DIGEST}
    assert (service.asked, service.latest_created_revision) == (
        (Target("x-1", 100), Target("x-2", 0, "candidate")),
        "x-2",
    )
    assert service.settled
    assert not service.failed


def test_a_write_moves_traffic_and_keeps_what_is_not_ours(cloud: CloudRun, platform: Platform):
    written = platform.write(with_shares(platform.read(), 80, 20))

    assert cloud.traffic("x") == {"x-1": 80, "x-2": 20}
    assert written.annotations == {"rookery.dev/rollout": "20"}
    assert written == platform.read()
    annotations = cloud.resources.find("x").metadata["annotations"]
    assert annotations["run.googleapis.com/ingress"] == "all"
    assert len(cloud.resources.revisions) == 2


def test_two_writes_on_one_reading_are_one_write(cloud: CloudRun, platform: Platform):
    service = platform.read()
    platform.write(with_shares(service, 95, 5))

    with pytest.raises(Conflict):
        platform.write(with_shares(service, 50, 50))
    assert cloud.traffic("x") == {"x-1": 95, "x-2": 5}


def test_a_person_in_between_wins(cloud: CloudRun, platform: Platform):
    cloud.fail(Fault(status=0, before=lambda: cloud.move_traffic("x", {"x-1": 70, "x-2": 30})))

    with pytest.raises(Conflict):
        platform.write(with_shares(platform.read(), 95, 5))
    assert cloud.traffic("x") == {"x-1": 70, "x-2": 30}


def test_a_revision_that_gets_ready_in_between_is_nobodys_decision(cloud: CloudRun, platform: Platform):
    cloud.fail(Fault(status=0, before=lambda: cloud.resources.find("x").touch()))

    platform.write(with_shares(platform.read(), 95, 5))

    assert cloud.traffic("x") == {"x-1": 95, "x-2": 5}


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_write_is_not_tried_again(cloud: CloudRun, platform: Platform, status: int):
    cloud.fail(Fault(status))

    with pytest.raises(Unavailable, match=str(status)):
        platform.write(with_shares(platform.read(), 95, 5))
    assert cloud.traffic("x") == {"x-1": 100}


def test_a_write_that_failed_may_have_been_applied(cloud: CloudRun, platform: Platform):
    cloud.fail(Fault(500, applies=True))

    with pytest.raises(Unavailable):
        platform.write(with_shares(platform.read(), 95, 5))
    assert platform.read().traffic[1].percent == 5


def test_a_reading_is_tried_again(cloud: CloudRun, platform: Platform):
    cloud.fail(Fault(503, method="GET", times=2))

    assert platform.read().traffic[0] == Target("x-1", 100)


def test_a_reading_ends(cloud: CloudRun, platform: Platform):
    cloud.fail(Fault(503, method="GET", times=100))

    with pytest.raises(Unavailable, match="503"):
        platform.read()


@pytest.mark.parametrize(("status", "words"), [(400, "400"), (401, "no access to Cloud Run"), (403, "403")])
def test_a_refusal_is_final(cloud: CloudRun, platform: Platform, status: int, words: str):
    cloud.fail(Fault(status, method="GET"))

    with pytest.raises(Refused, match=words):
        platform.read()


def test_a_service_that_is_not_there_is_named(services: Services):
    with pytest.raises(Refused, match="no service y; deploy it first"):
        Platform(services, "y").read()


def test_the_endpoint_moves_as_it_does_for_gcloud():
    override = {"CLOUDSDK_API_ENDPOINT_OVERRIDES_RUN": "http://run.fake.test/"}

    assert Place.of("demo", "us-central1", override).address == "http://us-central1-run.fake.test"
    assert Place.of("demo", "europe-west1", {}).address == "https://europe-west1-run.googleapis.com"


def test_a_candidate_that_is_not_ready_leaves_the_service_unsettled(
    cloud: CloudRun, platform: Platform, services: Services
):
    with pytest.raises(revision.NotReady, match=r"x-3.*failed to start"):
        revision.deploy(services, TEMPLATE, release("x-3", "registry.test/broken:1"))

    service = platform.read()
    assert not service.settled
    assert service.latest_ready_revision == "x-2"
    assert cloud.traffic("x") == {"x-1": 100}


def test_the_latest_revision_is_followed_only_if_it_was(cloud: CloudRun, platform: Platform):
    service = platform.read()
    written = platform.write(replace(service, traffic=(Target("", 100, latest=True),)))

    assert written.traffic == (Target("x-2", 100, latest=True),)
    assert written.settled
