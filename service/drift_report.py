"""What this instance has seen, against the reference of its bundle: the answer of `/model/drift`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from model import drift
from model.baseline import Variable
from model.bins import Counts
from model.drift import Finding
from model.manifest import Manifest
from service import families as f
from service.errors import NoModel
from service.sums import totals
from service.tally import Tally


def report(tally: Tally, digest: str, manifest: Manifest) -> dict[str, Any]:
    """Return live drift: all workers of the instance, since it was started.

    Args:
        tally: what was counted.
        digest: of the bundle in use; rows that another one answered are not in it.
        manifest: of the bundle.

    Raises:
        NoModel: drift is not counted.
    """
    watched = tally.watched
    if watched is None:
        raise NoModel(detail="The model has too many features for drift to be counted.")
    rows = totals(tally.ledger)[f.DRIFT_ROWS].series
    counts = [
        np.array([rows[digest, one.kind, one.name, bin_][0] for bin_ in one.bins], dtype=np.int64)
        for one in watched.variables
    ]
    judged = drift.judge(watched, counts)
    lists = {feature.name: feature.values for feature in manifest.features if feature.is_category}
    each = zip(watched.variables, counts, judged.findings, strict=True)
    return {
        "digest": digest,
        "rows": max(finding.rows for finding in judged.findings),
        "verdict": judged.verdict,
        "variables": [
            _variable(
                variable, live, finding, manifest.classes if variable.kind == "label" else lists.get(variable.name)
            )
            for variable, live, finding in each
        ],
    }


def _variable(variable: Variable, live: Counts, finding: Finding, values: Sequence[str] | None) -> dict[str, Any]:
    """Return one variable: how it is judged, and its bins.

    Args:
        variable: what is watched.
        live: rows in each bin, shape (b,).
        finding: how they are judged.
        values: of a closed list, in order; None for numbers.
    """
    bins = zip(variable.bins, live.tolist(), variable.reference.tolist(), strict=True)
    return {
        "kind": finding.kind,
        "name": finding.name,
        "verdict": finding.verdict,
        "rows": finding.rows,
        "minimum_rows": variable.minimum_rows,
        "psi": finding.psi,
        "chi_square": None if finding.change is None else asdict(finding.change),
        "shift": None if finding.shift is None else asdict(finding.shift),
        "bins": [
            {"name": name, **_place(variable, index, values), "live": count, "reference": reference}
            for index, (name, count, reference) in enumerate(bins)
        ],
    }


def _place(variable: Variable, index: int, values: Sequence[str] | None) -> dict[str, Any]:
    """Return what falls into a bin: from `low` to below `high`, None for no bound; or the values of a closed list."""
    # the last part is null's
    parts = np.flatnonzero(variable.places[:-1] == index).tolist()
    if variable.edges is None:
        return {"low": None, "high": None, "values": [(values or ())[part] for part in parts]}
    edges = [None, *variable.edges.tolist(), None]
    is_range = bool(parts) and len(parts) == parts[-1] - parts[0] + 1
    low, high = (edges[parts[0]], edges[parts[-1] + 1]) if is_range else (None, None)
    return {"low": low, "high": high, "values": None}
