"""Pins that fit each other, and the files that have them checked and renewed."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;]+)", re.MULTILINE)
# extras for people who change a package, not for those who use it
OF_DEVELOPERS = {"dev", "test", "tests", "lint", "mypy", "docs", "doc", "cov"}
# requirement of an extra → why an older version is pinned all the same
KNOWN = {
    "gunicorn_h1c>=0.6.14": "0.6.10 is the newest release there is; tests/integration/test_protocol.py tries its parser"
}


def pins(name: str) -> dict[str, str]:
    """Return package → version of a file of requirements."""
    return {canonicalize_name(package): version for package, version in PIN.findall((ROOT / name).read_text())}


def unmet(packages: Iterable[Distribution], pinned: dict[str, str]) -> list[str]:
    """Return the requirements, of any extra too, on a package that is pinned at a version outside of them.

    The resolver reads an extra's requirements where the extra is asked for; a package that pyproject.toml names by
    itself escapes them.
    """
    found = []
    for package in packages:
        if canonicalize_name(package.name) not in pinned:
            continue
        extras = {"", *(package.metadata.get_all("Provides-Extra") or ())} - OF_DEVELOPERS
        for requirement in map(Requirement, package.requires or ()):
            version = pinned.get(canonicalize_name(requirement.name))
            applies = requirement.marker is None or any(requirement.marker.evaluate({"extra": one}) for one in extras)
            if version and applies and not requirement.specifier.contains(version, prereleases=True):
                found.append(f"{requirement.name}{requirement.specifier}")
    return found


def test_no_pin_is_outside_of_what_another_package_declares():
    assert sorted(set(unmet(distributions(), pins("requirements.txt")))) == sorted(KNOWN)


def test_a_pin_below_the_floor_of_an_extra_would_be_noticed():
    pinned = pins("requirements.txt")

    assert "flask>=2.0" not in unmet(distributions(), pinned)
    assert "blinker>=1.9.0" in unmet(distributions(), {**pinned, "blinker": "1.8.0"})


def test_the_parser_is_one_in_which_lengths_do_not_wrap():
    # RFC 9110, 8.6: a length that a recipient cannot represent is no smaller one; 0.6.9 takes it modulo 2^64
    assert tuple(map(int, pins("requirements.txt")["gunicorn-h1c"].split("."))) >= (0, 6, 10)


@pytest.mark.parametrize(
    ("schema", "file"),
    [
        ("vendor.dependabot", ".github/dependabot.yml"),
        ("vendor.cloudbuild", "cloudbuild.yaml"),
        *(
            ("vendor.github-workflows", f".github/workflows/{path.name}")
            for path in sorted((ROOT / ".github/workflows").glob("*.yml"))
        ),
    ],
    ids=lambda value: value.rpartition("/")[2],
)
def test_files_for_others_fit_their_schemas(schema, file, tmp_path):
    """The schemas that check-jsonschema brings, of https://www.schemastore.org/."""
    text = (ROOT / file).read_text()
    (tmp_path / "whole.yml").write_text(text)
    (tmp_path / "faulty.yml").write_text(re.sub(r"^(version|steps|jobs):", "unknown:", text, flags=re.MULTILINE))

    fits = {
        name: subprocess.run(
            [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(tmp_path / f"{name}.yml")],
            capture_output=True,
            check=False,
        ).returncode
        for name in ("whole", "faulty")
    }

    assert fits == {"whole": 0, "faulty": 1}


def test_dependabot_looks_into_every_folder_with_pins():
    text = (ROOT / ".github/dependabot.yml").read_text()
    folders = {f"/{path.parent.relative_to(ROOT)}" for path in ROOT.glob("[!.]*/**/requirements*.txt")}

    assert folders
    for folder in folders:
        assert f'"{folder}"' in text or f'"{Path(folder).parent}/*"' in text, folder
