"""What DEPLOYMENT.md says a service costs is what its file and the prices give."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
MONTH_SECONDS, DAY_SECONDS = 365.25 / 12 * 86400, 86400
ROW = re.compile(r"^\| (.+?) \| ([0-9.]+) \| ([0-9.]+) \| ([0-9.]+) \|$", re.MULTILINE)


def test_the_costs_follow_from_the_service_file_and_the_prices():
    section = (ROOT / "DEPLOYMENT.md").read_text().split("### What it costs")[1].split("## ")[0]
    prices = tomllib.loads((ROOT / "load/prices.toml").read_text())["instance"]
    file = yaml.safe_load((ROOT / "deploy/cloudrun/service.yaml").read_text())["spec"]["template"]
    limits = [one["resources"]["limits"] for one in file["spec"]["containers"]]
    sizes = [(float(one["cpu"]), int(one["memory"].removesuffix("Mi")) / 1024) for one in limits]
    assert file["metadata"]["annotations"]["run.googleapis.com/cpu-throttling"] == "false"

    def price(parts: int, seconds: float) -> tuple[float, float, float]:
        vcpu, gib = (sum(size[index] for size in sizes[:parts]) for index in (0, 1))
        return vcpu, gib, round((vcpu * prices["vcpu_second"] + gib * prices["gib_second"]) * seconds, 2)

    said = [tuple(float(value) for value in row[1:]) for row in ROW.findall(section)]
    assert said == [price(2, MONTH_SECONDS), price(1, MONTH_SECONDS), price(2, DAY_SECONDS)]
