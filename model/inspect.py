"""Looks at model files before a native loader does: a signed file may still be broken or hostile (decision 3)."""

from __future__ import annotations

from collections.abc import Mapping

from model import inspect_xgboost
from model.errors import BundleError
from model.inspect_trees import StructureInvalid
from model.manifest import Manifest

# some ten times the largest forest that one core can serve in time
MAX_BYTES = 128 << 20


def check(files: Mapping[str, bytes], manifest: Manifest, max_bytes: int = MAX_BYTES) -> None:
    """Refuse every model file that is not built as training builds it; what it answers is for the golden rows.

    Args:
        files: name → bytes, exactly the files the manifest names, digests and signature already right.
        manifest: says how many columns and classes the model must have.
        max_bytes: the largest file that is read.

    Raises:
        BundleError: `structure_invalid`, naming the file and the place in it.
    """
    for name, payload in sorted(files.items()):
        try:
            if len(payload) > max_bytes:
                raise StructureInvalid(f"it has {len(payload)} bytes, more than {max_bytes}")
            _check_one(name, payload, manifest)
        except StructureInvalid as error:
            raise BundleError("structure_invalid", f"{name}: {error}") from error


def _check_one(name: str, payload: bytes, manifest: Manifest) -> None:
    """Look at one file; what reads protocol buffers is imported for those who have such a file to look at."""
    if name == "model.json":
        inspect_xgboost.check(payload, manifest)
        return
    from model import inspect_onnx

    inspect_onnx.check(payload, manifest)
