"""What a release asks Cloud Run for."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.deploy.release import Release, ReleaseError, beside, fill, is_first, revision_name
from scripts.rollout import state as states

ROOT = Path(__file__).resolve().parents[4]
TEMPLATE = yaml.safe_load((ROOT / "deploy/cloudrun/service.yaml").read_text())
DIGEST = "sha256:" + "ab" * 32
RELEASE = Release(
    service="penguins",
    revision="penguins-65f0-abababab",
    image="registry.test/rookery@sha256:1",
    model_uri=f"gs://models/penguins/{'ab' * 32}/",
    model_digest=DIGEST,
    service_account="runtime@demo.iam.gserviceaccount.com",
    project="demo",
    settings={"ROOKERY_LOG_LEVEL": "debug"},
)


def existing(*traffic: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": "penguins", "resourceVersion": "7", "annotations": {"rookery.dev/rollout": "{}"}}
    return {"metadata": metadata, "spec": {}, "status": {"traffic": list(traffic)}}


def variables(body: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one for one in body["spec"]["template"]["spec"]["containers"][0]["env"]}


def test_every_place_is_filled():
    text = yaml.safe_dump(fill(TEMPLATE, RELEASE))

    assert [
        word for word in ("SERVICE", "REVISION", "IMAGE", "SERVICE_ACCOUNT", "PROJECT") if f": {word}\n" in text
    ] == []
    assert variables(fill(TEMPLATE, RELEASE))["MODEL_URI"]["value"] == RELEASE.model_uri
    assert variables(fill(TEMPLATE, RELEASE))["MODEL_DIGEST"]["value"] == DIGEST
    assert variables(fill(TEMPLATE, RELEASE))["ROOKERY_LOG_LEVEL"]["value"] == "debug"
    assert variables(fill(TEMPLATE, RELEASE))["ROOKERY_PROJECT"]["value"] == "demo"
    assert TEMPLATE["metadata"]["name"] == "SERVICE"


def test_the_service_file_is_what_was_promised():
    spec = TEMPLATE["spec"]["template"]["spec"]
    main, sidecar = spec["containers"]
    annotations = TEMPLATE["spec"]["template"]["metadata"]["annotations"]

    assert main["startupProbe"]["httpGet"] == {"path": "/health/ready", "port": 8080}
    assert main["livenessProbe"]["httpGet"] == {"path": "/health/live", "port": 8080}
    assert main["ports"][0]["containerPort"] == 8080
    assert main["resources"]["limits"] == {"cpu": "1", "memory": "512Mi"}
    assert "gmp-sidecar" in sidecar["image"]
    assert annotations["run.googleapis.com/execution-environment"] == "gen2"
    assert annotations["run.googleapis.com/startup-cpu-boost"] == "true"
    assert "securityContext" not in main


def test_the_sidecar_and_the_key_can_be_left_out():
    body = fill(TEMPLATE, replace(RELEASE, has_sidecar=False, public_key_secret=""))

    assert [one["name"] for one in body["spec"]["template"]["spec"]["containers"]] == ["rookery"]
    assert "container-dependencies" not in yaml.safe_dump(body)
    assert "MODEL_PUBLIC_KEY" not in variables(body)


def test_another_secret_can_hold_the_key():
    body = fill(TEMPLATE, replace(RELEASE, public_key_secret="other"))

    assert variables(body)["MODEL_PUBLIC_KEY"]["valueFrom"]["secretKeyRef"] == {"name": "other", "key": "1"}


def test_the_first_revision_of_all_gets_all_traffic():
    written = beside(fill(TEMPLATE, RELEASE), None)

    assert written["spec"]["traffic"] == [{"revisionName": RELEASE.revision, "tag": "candidate", "percent": 100}]
    assert "resourceVersion" not in written["metadata"]


def test_a_later_one_gets_none_and_takes_the_tag():
    found = existing(
        {"revisionName": "old", "tag": "candidate"},
        {"revisionName": "penguins-2", "percent": 30, "tag": "blue"},
        {"revisionName": "penguins-1", "percent": 70, "latestRevision": True},
    )
    written = beside(fill(TEMPLATE, RELEASE), found)

    assert written["spec"]["traffic"] == [
        {"revisionName": "penguins-2", "percent": 30, "tag": "blue"},
        {"revisionName": "penguins-1", "percent": 70},
        {"revisionName": RELEASE.revision, "tag": "candidate"},
    ]
    assert written["metadata"]["resourceVersion"] == "7"
    assert written["metadata"]["annotations"]["rookery.dev/rollout"] == "{}"


def unfit(phase: str, stable: str = "penguins-1") -> str:
    state = states.new("penguins-1", stable, "canary", 1000.0, "deploy").at(states.Phase(phase), 1000.0, "golden")
    return json.dumps(asdict(state))


@pytest.mark.parametrize(
    ("traffic", "note", "first"),
    [
        ([], "{}", True),
        ([{"revisionName": "penguins-1"}], "{}", True),
        ([{"revisionName": "penguins-1", "percent": 100}], "{}", False),
        ([{"revisionName": "penguins-1", "percent": 100}], unfit("rolled_back"), True),
        ([{"revisionName": "penguins-1", "percent": 100}], unfit("promoted"), False),
        ([{"revisionName": "penguins-1", "percent": 100}], unfit("rolled_back", "penguins-0"), False),
        ([{"revisionName": "penguins-2", "percent": 100}], unfit("rolled_back"), False),
        ([{"revisionName": "penguins-1", "percent": 100}], "no JSON", False),
    ],
    ids=["nothing", "no-traffic", "serving", "unfit", "proven", "candidate", "another", "damaged"],
)
def test_a_revision_is_first_where_nothing_serves_that_ever_passed(
    traffic: list[dict[str, Any]], note: str, first: bool
):
    found = existing(*traffic)
    found["metadata"]["annotations"]["rookery.dev/rollout"] = note
    targets = beside(fill(TEMPLATE, RELEASE), found)["spec"]["traffic"]

    assert is_first(found) is first
    assert {"revisionName": RELEASE.revision, "tag": "candidate", **({"percent": 100} if first else {})} in targets
    assert sum(one.get("percent", 0) for one in targets) == 100


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_digest": ""}, "no digest"),
        ({"model_digest": "sha256:12"}, "64 hex"),
        ({"revision": "Penguins"}, "lower case"),
        ({"revision": "p" * 64}, "at most 63"),
    ],
    ids=["none", "short", "capital", "long"],
)
def test_what_cloud_run_would_refuse_is_refused_before_the_build(change: dict[str, str], words: str):
    with pytest.raises(ReleaseError, match=words):
        replace(RELEASE, **change)


def test_names_of_revisions_sort_by_time_and_tell_the_bundle():
    first, second = (revision_name("penguins", DIGEST, seconds) for seconds in (1_800_000_000, 1_800_000_001))

    assert first < second
    assert first == "penguins-6b49d200-abababab"
