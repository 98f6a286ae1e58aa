"""The service does what its OpenAPI document says, as schemathesis reads it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.conftest import Tell

from . import conformance
from .conftest import Shared

EXAMPLES = 50
# of each of the many operations of the protocols
FEW = 10
SETTINGS = {
    "ROOKERY_FEEDBACK": "true",
    "AIP_PREDICT_ROUTE": "/v1/endpoints/1:predict",
    "AIP_HEALTH_ROUTE": "/v1/endpoints/1",
}
# few, so that it is quick to write more
MAX_INSTANCES = 20


@pytest.mark.parametrize(
    ("model", "run", "examples"),
    [
        ("penguins", "all checks", EXAMPLES),
        ("penguins", "all parameters", EXAMPLES),
        ("iris", "all checks", EXAMPLES),
        ("penguins", "protocols", FEW),
    ],
)
def test_every_answer_keeps_the_document(
    shared: Shared, bundles: dict[str, Path], tmp_path: Path, tell: Tell, model: str, run: str, examples: int
) -> None:
    server = shared({"MODEL_URI": str(bundles[model]), "MAX_INSTANCES": str(MAX_INSTANCES), **SETTINGS})
    found = conformance.run(server, run, examples, tmp_path)
    paths = server.get("/openapi.json").json()["paths"]
    # the document itself is not tried
    told = [one for path, methods in paths.items() if path != "/openapi.json" for one in methods.values()]
    own, protocols = (
        [one for one in told if bool(re.match(conformance.OTHERS, one["tags"][0])) is is_other]
        for is_other in (False, True)
    )

    tell(f"A7: {model}, {run}: {found.cases} cases, {found.failures} failures")
    assert found.failures == 0, found.text
    assert found.operations[0] == found.operations[1] == (len(protocols) if run == "protocols" else len(own))
    assert (len(own), len(protocols)) == (8, 19)
    assert found.cases > examples


def test_a_document_that_lies_is_found_out(shared: Shared, bundles: dict[str, Path], tmp_path: Path) -> None:
    server = shared({"MODEL_URI": str(bundles["penguins"]), "MAX_INSTANCES": str(MAX_INSTANCES)})
    lie = server.get("/openapi.json").json()
    lie["components"]["schemas"]["Health"]["properties"]["status"]["enum"] = ["dead"]
    document = tmp_path / "lie.json"
    document.write_text(json.dumps(lie))

    # both probes
    assert conformance.run(server, "all checks", 1, tmp_path, document).failures >= 2
