"""Whether what is in a project says what its file says, and what of it stays when it is renewed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# given by the platform, or set by a person: a policy that somebody has switched off stays off
KEPT = ("name", "etag", "enabled")


def is_same(wanted: Any, there: Any) -> bool:
    """Whether everything that is wanted is there; what is there beside it is the platform's own, or somebody's.

    JSON of protocol buffers leaves out what is 0, false or empty.
    """
    if isinstance(wanted, Mapping):
        return isinstance(there, Mapping) and all(
            is_same(value, there[key]) if key in there else not value for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return isinstance(there, list) and len(wanted) == len(there) and all(map(is_same, wanted, there))
    return bool(wanted == there)


def as_version_of(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is wanted as the next version of what is there.

    The platform refuses a dashboard without the etag of the version it replaces, and takes a condition without a name
    for a new one: the incidents of the old one would be closed.
    """
    renewed = {**wanted, **{key: there[key] for key in KEPT if key in there}}
    names = {one["displayName"]: {"name": one["name"]} for one in there.get("conditions", ()) if "displayName" in one}
    if "conditions" in wanted:
        renewed["conditions"] = [{**one, **names.get(one["displayName"], {})} for one in wanted["conditions"]]
    return renewed
