"""Which setting was meant by a name that is none."""

from __future__ import annotations

import difflib

# an unknown name so near to a setting's is refused; ordinary variables are shorter or farther
SLIPS, SLIP_LENGTH = 2, 8


def nearly(name: str, known: list[str]) -> str | None:
    """Return the setting of which a name is probably a slip of the pen, or None; short names are too near to others."""
    if len(name) < SLIP_LENGTH:
        return None
    near = (setting for setting in known if len(setting) >= SLIP_LENGTH and _distance(name, setting) <= SLIPS)
    return min(near, key=lambda setting: _distance(name, setting), default=None)


def _distance(one: str, other: str) -> int:
    """Return how many letters must be put in, left out or replaced (Levenshtein 1966); more than `SLIPS` is cut."""
    if abs(len(one) - len(other)) > SLIPS:
        return SLIPS + 1
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        before, row = row, [i]
        for j, wanted in enumerate(other, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (letter != wanted)))
        if min(row) > SLIPS:
            return SLIPS + 1
    return row[-1]


def unknown(name: str, known: list[str], prefix: str) -> str:
    """Name the setting that was probably meant."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(k for k in known if k.startswith(prefix))}"
    return f"{name} is not a setting; {hint}"
