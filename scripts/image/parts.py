"""Lists what the image is made of: an SBOM (CycloneDX 1.6), the licences, the megabytes. Needs nothing but Python."""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

PIN = re.compile(r"^([a-z0-9-]+)==([^ ;]+)", re.MULTILINE)
CLASSIFIER = "License :: OSI Approved :: "
# names of the Python packaging classifiers and of metadata before PEP 639, as SPDX has them
SPDX = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
EXPRESSION = re.compile(r"[A-Za-z0-9.+-]+(?: (?:AND|OR|WITH) [A-Za-z0-9.+-]+|[()])*")
IN_SITE = re.compile(r"opt/venv/lib/python3\.\d+/site-packages/([^/]+)")
# top of the tree → what the table of sizes calls it; the first that fits
PLACES = {
    "app/bundle": "bundle",
    "app": "service and model",
    "opt/venv": "other packages",
    "usr/local": "Python",
    "": "Debian",
}


@dataclass(frozen=True, order=True)
class Part:
    """One component.

    Attributes:
        kind: `pypi`, `deb` or `generic`, as in a package URL.
        licence: an SPDX expression, or the words its maker uses; `unknown` if it says nothing.
    """

    kind: str
    name: str
    version: str
    licence: str

    @property
    def purl(self) -> str:
        """Its package URL."""
        space = "debian/" if self.kind == "deb" else ""
        return f"pkg:{self.kind}/{space}{quote(self.name)}@{quote(self.version)}"


def python_parts(site: Path, pins: dict[str, set[str]] | None = None) -> Iterator[Part]:
    """Yield the installed distributions of an environment; with pins only those, each of a version that is pinned.

    Raises:
        SystemExit: another version is installed than is pinned.
    """
    folder = next(site.glob("lib/python3.*/site-packages"))
    for found in distributions(path=[str(folder)]):
        name = re.sub(r"[-_.]+", "-", found.name).lower()
        if pins is not None and found.version not in pins.get(name, {found.version}):
            pinned = " or ".join(sorted(pins[name]))
            sys.exit(f"error: {name} {found.version} is installed, but {pinned} is pinned; run make install")
        if pins is None or name in pins:
            yield Part("pypi", name, found.version, licence_of(found))


def pins_of(requirements: str) -> dict[str, set[str]]:
    """Return the pinned versions of each package: several where they depend on the version of Python."""
    pins: dict[str, set[str]] = {}
    for name, version in PIN.findall(requirements):
        pins.setdefault(name, set()).add(version)
    return pins


def licence_of(found: Distribution) -> str:
    """Return what a distribution says of its licence, in SPDX's words where they are known."""
    told: dict[str, Any] = found.metadata.json
    if told.get("license_expression"):
        return str(told["license_expression"])
    lines = str(told.get("license", "")).splitlines()
    named = SPDX.get(lines[0], lines[0]) if len(lines) == 1 else ""
    if EXPRESSION.fullmatch(named):
        return named
    classes = [text.removeprefix(CLASSIFIER) for text in told.get("classifier", []) if text.startswith(CLASSIFIER)]
    return " OR ".join(sorted(SPDX.get(name, name) for name in classes)) or named or "unknown"


def debian_parts(system: Path) -> Iterator[Part]:
    """Yield Debian's packages below a root, from dpkg's own records."""
    for block in (system / "var/lib/dpkg/status").read_text().split("\n\n"):
        fields = dict(re.findall(r"^(Package|Status|Version): (.*)$", block, re.MULTILINE))
        if fields.get("Status", "").endswith(" installed"):
            copyright_file = system / "usr/share/doc" / fields["Package"] / "copyright"
            text = copyright_file.read_text(errors="replace") if copyright_file.is_file() else ""
            names = sorted(set(re.findall(r"^License: *(\S.*)$", text, re.MULTILINE)))
            yield Part("deb", fields["Package"], fields["Version"], ", ".join(names) or "see its copyright file")


def sbom(parts: Iterable[Part]) -> str:
    """Return the parts as CycloneDX 1.6 JSON; without a time, so that the same parts give the same bytes."""
    components = [
        {
            "type": "library",
            "bom-ref": part.purl,
            "name": part.name,
            "version": part.version,
            "purl": part.purl,
            "licenses": [{"license": {"name": part.licence}}],
        }
        for part in parts
    ]
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "bom-ref": "rookery", "name": "rookery"}},
        "components": components,
    }
    return json.dumps(document, indent=1) + "\n"


def licences(parts: Iterable[Part]) -> str:
    """Return the parts as a table, one a line."""
    return "".join(f"{part.kind:8}{part.name:32}{part.version:24}{part.licence}\n" for part in parts)


def sizes(exported: IO[bytes]) -> Counter[str]:
    """Return the bytes of every part of an image's file system, given as an uncompressed or gzipped tar."""
    found: Counter[str] = Counter()
    with tarfile.open(fileobj=exported, mode="r|*") as archive:
        for member in archive:
            if member.isfile():
                found[place(member.name.removeprefix("./"))] += member.size
    return found


def place(name: str) -> str:
    """Return the part that a file belongs to; a package with its libraries counts as one."""
    in_site = IN_SITE.match(name)
    if in_site:
        package = re.split(r"[.-]", in_site[1])[0].lstrip("_")
        return (
            package
            if package in ("cryptography", "google", "numpy", "onnxruntime", "scipy", "uvloop", "xgboost")
            else "other packages"
        )
    return next(part for top, part in PLACES.items() if not top or name == top or name.startswith(f"{top}/"))


def size_table(found: Counter[str]) -> str:
    """Return the sizes in MB (10⁶ bytes), largest first, and their sum."""
    lines = [f"{name:20}{size / 1e6:8.1f} MB\n" for name, size in found.most_common()]
    return "".join(lines) + f"{'all':20}{found.total() / 1e6:8.1f} MB\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python scripts/image/parts.py",
        description="List what the image is made of.",
        epilog="exit status: 0 listed, 2 wrong usage; "
        "example: python scripts/image/parts.py sbom --requirements requirements.txt",
    )
    parser.add_argument("verb", choices=["sbom", "licences", "sizes"], help="sizes reads the image's files from stdin")
    parser.add_argument("--site", type=Path, default=Path(".venv"), help="environment to list")
    parser.add_argument("--requirements", type=Path, help="list only what is pinned here")
    parser.add_argument("--system", type=Path, help="root with Debian's records; the interpreter is listed with it")
    given = parser.parse_args(arguments)
    if given.verb == "sizes":
        print(size_table(sizes(sys.stdin.buffer)), end="")
        return 0
    try:
        pins = pins_of(given.requirements.read_text()) if given.requirements else None
    except OSError as error:
        parser.error(f"{given.requirements} cannot be read: {error.strerror}")
    parts = list(python_parts(given.site, pins))
    if given.system:
        parts += debian_parts(given.system)
        parts.append(Part("generic", "python", platform.python_version(), "PSF-2.0"))
    print({"sbom": sbom, "licences": licences}[given.verb](sorted(parts)), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
