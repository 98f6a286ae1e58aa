"""What damaged model files do to the engines, before and after the structure check.

    python -m tests.soak.damage structure --count 1500

prints a table and exits with 1 if anything that the check accepts crashes, hangs or takes all memory.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import msgspec

from model import bundle, compiling, dataset, predictor, spec, train, verify
from model.engines import OnnxEngine
from model.manifest import Golden
from model.predictor import Predictor
from model.verify import VerifiedBundle
from tests.conftest import NO_BAR, quick_spec
from tests.soak import trials
from tests.soak.edits import Edit, damage_bytes, edit_json
from tests.soak.graphs import edit_onnx
from tests.soak.trials import CAUGHT, CRASH, HANG, MEMORY, MISSED, RAISED, REFUSED, SAME, Subject, Tally
from tests.unit.model import toy

COLUMNS = (CRASH, HANG, MEMORY, RAISED, REFUSED, SAME, CAUGHT, MISSED)
PRUNED = 'name = "xgboost"\nrounds = 6\n[algorithm.params]\nmax_depth = 4\ngamma = 3\ntree_method = "exact"'
FOREST = 'name = "random_forest"\nrounds = 8\ncalibrate = "never"\n[algorithm.params]\nmax_depth = 4'


def subjects(root: Path) -> list[Subject]:
    """Train one model of each kind of file: two for XGBoost, four for ONNX Runtime."""
    penguins, iris = (trained(quick_spec(name, root), root) for name in ("penguins", "iris"))
    mixed = trained(toy.write(root, names=toy.MIXED, nullable=True), root)
    binary = trained(toy.write(root, PRUNED, toy.NUMBERS, classes=2), root)
    return [
        Subject("penguins", penguins, "model.json"),
        Subject("pruned binary", binary, "model.json"),
        Subject("penguins", penguins, "model.onnx"),
        Subject("iris linear", iris, "model.onnx"),
        Subject("tempered forest", tempered(toy.write(root, FOREST), root), "model.onnx"),
        Subject("one-hot", mixed, "model.onnx"),
    ]


def trained(path: Path, root: Path) -> VerifiedBundle:
    """Train a bundle from a spec file."""
    loaded = spec.load(path)
    with contextlib.redirect_stdout(io.StringIO()):
        return verify.read(train.train(loaded, dataset.load(loaded), NO_BAR, root, quiet=True).folder)


def tempered(path: Path, root: Path, temperature: float = 1.7) -> VerifiedBundle:
    """Train a scikit-learn bundle and give it a temperature, whether it needs one or not."""
    plain = trained(path, root)
    _, data, model = toy.fit(path)
    payload, _ = compiling.compile_model(model.scaled(temperature), data.features, "toy")
    manifest, rows = plain.manifest, Predictor(plain, OnnxEngine(payload, len(data.features))).golden_matrix()
    answers = OnnxEngine(payload, len(data.features)).predict(rows)
    golden = msgspec.structs.replace(manifest.golden, probabilities=tuple(tuple(map(float, row)) for row in answers))
    assert isinstance(golden, Golden)
    files = {"model.onnx": payload}
    manifest = msgspec.structs.replace(manifest, golden=golden, files=(bundle.part("model.onnx", payload),))
    result = verify.read(bundle.write(root, manifest, files).folder)
    predictor.load(result)
    return result


def run(subject: Subject, kind: str, count: int) -> Tally:
    """Damage one file in one way, `count` times."""
    structural = edit_json if subject.file == "model.json" else edit_onnx
    edit: Edit = damage_bytes if kind == "bytes" else structural
    return trials.tally(subject, edit, [f"{kind}/{subject.name}/{number}" for number in range(count)])


def structure(count: int, only: str) -> int:
    """Run the experiment, print its table, and return the exit status."""
    good = True
    with tempfile.TemporaryDirectory() as folder:
        several = subjects(Path(folder))
        print(f"{'file':<11} {'model':<16} {'damage':<10} {'check':<7}" + "".join(f"{c:>9}" for c in COLUMNS))
        for subject in several:
            if only not in subject.name + "/" + subject.file:
                continue
            for kind in ("bytes", "structure"):
                start = time.monotonic()
                result = run(subject, kind, count)
                for name, counts in (("before", result.before), ("after", result.after)):
                    row = "".join(f"{counts[column]:>9}" for column in COLUMNS)
                    print(f"{subject.file:<11} {subject.name:<16} {kind:<10} {name:<7}{row}")
                print(f"# {time.monotonic() - start:.0f} s", *result.worst[:20], sep="\n#   ", flush=True)
                good = good and result.survived
        for subject in several:
            print(f"# check of {subject.file} of {subject.name}: {1000 * trials.check_seconds(subject):.2f} ms")
    print("missed: answers differ, but on none of the golden rows; raised: the check itself failed")
    return 0 if good else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak.damage", description="Damage model files and load them."
    )
    parser.add_argument("what", choices=["structure"], help="the structure check against damaged model files")
    parser.add_argument("--count", type=int, default=1500, help="damages for each file and kind (default: 1500)")
    parser.add_argument("--only", default="", help="only files whose `model/file` contains this text")
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    return structure(given.count, given.only)


if __name__ == "__main__":
    sys.exit(main())
