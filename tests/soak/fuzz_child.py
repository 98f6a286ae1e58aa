"""The process that fuzzes: python -m tests.soak.fuzz_child ITSELF FOLDER … -- LIBFUZZER-ARGUMENT …."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

# the models need no coverage, and training libraries no instrumentation
from model import predictor, verify

with atheris.instrument_imports(include=["service"]):
    from tests.soak.agreement import Ways


def main() -> None:
    """Fuzz; never returns."""
    split = sys.argv.index("--")
    ways = [Ways(predictor.load(verify.read(Path(folder)))) for folder in sys.argv[2:split]]

    def try_all(data: bytes) -> None:
        """Read one input as a body for every model."""
        for way in ways:
            way.check(data)

    # merging runs the program again and again by its name: a script that starts this one
    atheris.Setup([sys.argv[1], *sys.argv[split + 1 :]], try_all)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
