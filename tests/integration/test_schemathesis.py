"""The service does what its OpenAPI document says, as schemathesis reads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from . import conformance
from .conftest import Shared, Tell

EXAMPLES = 50
# few, so that it is quick to write more
MAX_INSTANCES = 20


@pytest.mark.parametrize(
    ("model", "run"), [("penguins", "all checks"), ("penguins", "all parameters"), ("iris", "all checks")]
)
def test_every_answer_keeps_the_document(
    shared: Shared, bundles: dict[str, Path], tmp_path: Path, tell: Tell, model: str, run: str
) -> None:
    server = shared({"MODEL_URI": str(bundles[model]), "MAX_INSTANCES": str(MAX_INSTANCES)})
    found = conformance.run(server, run, EXAMPLES, tmp_path)

    tell(f"A7: {model}, {run}: {found.cases} cases, {found.failures} failures")
    assert found.failures == 0, found.text
    assert found.operations[0] == found.operations[1] >= 5
    assert found.cases > EXAMPLES


def test_a_document_that_lies_is_found_out(shared: Shared, bundles: dict[str, Path], tmp_path: Path) -> None:
    server = shared({"MODEL_URI": str(bundles["penguins"]), "MAX_INSTANCES": str(MAX_INSTANCES)})
    lie = server.get("/openapi.json").json()
    lie["components"]["schemas"]["Health"]["properties"]["status"]["enum"] = ["dead"]
    document = tmp_path / "lie.json"
    document.write_text(json.dumps(lie))

    # both probes
    assert conformance.run(server, "all checks", 1, tmp_path, document).failures >= 2
