"""Validates manifests against Kubernetes' own schemas: `kubectl kustomize deploy/gke | tests/gke/validate.py 1.34`.

It runs in an environment of its own, see `make test-gke`; of custom resources it has no schemas, and says so.
"""

from __future__ import annotations

import sys

import kubernetes_validate
import yaml

CUSTOM = {"monitoring.googleapis.com/v1", "serving.kserve.io/v1beta1"}


def main(text: str, versions: list[str]) -> int:
    """Validate documents against versions; returns 1 if anything is not as its schema says."""
    failed = False
    for version in versions:
        for document in yaml.safe_load_all(text):
            name = f"{document['kind']} {document['metadata']['name']}"
            if document["apiVersion"] in CUSTOM:
                print(f"{version} {name}: no schema here")
                continue
            try:
                kubernetes_validate.validate(document, version, strict=True)
                print(f"{version} {name}: valid")
            except kubernetes_validate.ValidationError as error:
                failed = True
                print(f"{version} {name}: {error.message} at {'.'.join(map(str, error.path))}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.stdin.read(), sys.argv[1:]))
