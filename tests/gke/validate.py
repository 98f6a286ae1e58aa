"""Validates manifests against schemas: `kubectl kustomize deploy/gke | tests/gke/validate.py 1.34 podmonitorings.yaml`.

Numbers are versions of Kubernetes, whose own schemas are meant; files are definitions of custom resources, as their
projects publish them. Of a custom resource without its definition nothing is said but that. It runs in an environment
of its own, see `make test-gke`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

Definitions = dict[tuple[str, str], dict[str, Any]]


def main(text: str, words: list[str]) -> int:
    """Validate documents against versions and definitions; returns 1 if anything is not as its schema says."""
    custom = dict(definitions(word for word in words if word.endswith((".yaml", ".yml"))))
    failed = False
    for version in (word for word in words if not word.endswith((".yaml", ".yml"))):
        for document in yaml.safe_load_all(text):
            told = problems(document, version, custom)
            failed |= bool(told)
            name = f"{document['kind']} {document['metadata']['name']}"
            print(f"{version} {name}: {'; '.join(told) if told else seen(document, custom)}")
    return 1 if failed else 0


def problems(document: dict[str, Any], version: str, custom: Definitions) -> list[str]:
    """Return what is wrong with a document."""
    key = (document["apiVersion"], document["kind"])
    if key in custom:
        found = jsonschema.Draft202012Validator(custom[key]).iter_errors(document)
        return [f"{error.message} at {'.'.join(map(str, error.path))}" for error in found]
    if is_custom(document):
        return []
    try:
        kubernetes_validate.validate(document, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{error.message} at {'.'.join(map(str, error.path))}"]
    return []


def seen(document: dict[str, Any], custom: Definitions) -> str:
    """Say that a document is valid, or that nobody knows."""
    has_schema = not is_custom(document) or (document["apiVersion"], document["kind"]) in custom
    return "valid" if has_schema else "no schema here"


def is_custom(document: dict[str, Any]) -> bool:
    """Whether Kubernetes itself does not know the kind: its own groups have no dot, or end in k8s.io."""
    group = document["apiVersion"].rpartition("/")[0]
    return "." in group and not group.endswith(".k8s.io")


def definitions(paths: Iterator[str]) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    """Yield the schema of each version of each custom resource that is defined."""
    for path in paths:
        for document in yaml.safe_load_all(Path(path).read_text()):
            spec = document["spec"]
            for version in spec["versions"]:
                schema = strict(version["schema"]["openAPIV3Schema"])
                schema["properties"]["metadata"] = {"type": "object"}
                yield (f"{spec['group']}/{version['name']}", spec["names"]["kind"]), schema


def strict(schema: Any) -> Any:
    """Return a structural schema as JSON Schema that knows no other fields, as the API server prunes them."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: strict(value) for name, value in schema.items()}
    if found.pop("x-kubernetes-int-or-string", False):
        found["type"] = ["integer", "string"]
    is_open = found.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in found
    if isinstance(found.get("properties"), dict) and found.get("type") == "object" and not is_open:
        found["additionalProperties"] = False
    return found


if __name__ == "__main__":
    sys.exit(main(sys.stdin.read(), sys.argv[1:]))
