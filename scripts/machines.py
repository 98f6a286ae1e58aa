"""Makes the example data of docs/your-own-model.md: `python -m scripts.machines machines.csv`."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from model.command_line import Parser

ROWS, SEED = 1500, 1
VIBRATIONS = 6


def rows(count: int, seed: int) -> list[dict[str, str]]:
    """Return made-up pumps: twenty measurements, some of them missing, and whether the pump failed within a month.

    Args:
        count: of pumps.
        seed: the same seed gives the same pumps.
    """
    random = np.random.default_rng(seed)
    wear = random.beta(2, 4, count)
    columns: dict[str, list[str]] = {
        "age_h": _texts(random.gamma(3, 2000, count) * (0.4 + wear), 0),
        "oil_temperature_c": _texts(random.normal(55, 4, count) + 28 * wear, 1),
        "case_temperature_c": _texts(random.normal(45, 5, count) + 15 * wear, 1),
        "room_temperature_c": _texts(random.normal(21, 4, count), 1),
        "inlet_pressure_bar": _texts(random.normal(2.2, 0.2, count), 2),
        "outlet_pressure_bar": _texts(random.normal(9.5, 0.4, count) - 3 * wear, 2),
        "flow_l": _texts(random.normal(320, 20, count) - 90 * wear, 1),
        "speed_rpm": _texts(random.normal(2950, 25, count), 0),
        "current_a": _texts(random.normal(14, 1, count) + 6 * wear, 1),
        "voltage_v": _texts(random.normal(400, 4, count), 1),
        "starts": _texts(random.poisson(20 + 90 * wear), 0),
        "leaks": _texts(random.poisson(2.5 * wear), 0),
        "supplier": list(random.choice(["north", "south", "overseas"], count, p=[0.5, 0.3, 0.2])),
        "duty": list(random.choice(["continuous", "peaks"], count)),
    }
    for index in range(VIBRATIONS):
        columns[f"vibration_{index + 1}_mm"] = _texts(random.gamma(2, 0.02, count) + 0.15 * wear * (index < 4), 3)
    for name in ("oil_temperature_c", "flow_l", "vibration_3_mm", "supplier"):
        lost = random.random(count) < 0.08
        columns[name] = ["" if gone else text for gone, text in zip(lost, columns[name], strict=True)]
    overseas = np.array([text == "overseas" for text in columns["supplier"]])
    odds = 14 * (wear - 0.42) + 1.2 * overseas
    failed = random.random(count) < 1 / (1 + np.exp(-odds))
    columns["failed"] = ["yes" if one else "no" for one in failed]
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def _texts(values: np.typing.NDArray[np.generic], digits: int) -> list[str]:
    """Return numbers as they would stand in a log."""
    return [f"{value:.{digits}f}" for value in values]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file; returns 0, or 2 if it cannot be written."""
    parser = Parser(
        prog="python -m scripts.machines",
        description="Make example data: pumps with twenty measurements, some missing, and whether they failed.",
        epilog="exit status: 0 written, 2 it cannot be written, or wrong usage\n\n"
        "example: python -m scripts.machines machines.csv --seed 2",
    )
    parser.add_argument("out", type=Path, help="the CSV to write")
    parser.add_argument("--rows", type=int, default=ROWS, help=f"default: {ROWS}")
    parser.add_argument("--seed", type=int, default=SEED, help=f"default: {SEED}")
    given = parser.parse_args(arguments)
    made = rows(given.rows, given.seed)
    try:
        with given.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(made[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(made)
    except OSError as error:
        print(f"error: {given.out} cannot be written: {error.strerror}", file=sys.stderr)
        return 2
    print(f"{given.out}: {len(made)} pumps, {sum(row['failed'] == 'yes' for row in made)} failed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
