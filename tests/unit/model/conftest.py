"""Toy models, fitted once per session, and ways to break a bundle."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from model import bundle, dataset, predictor, sign, signing, spec, train, verify
from model.manifest import Manifest
from model.predictor import Predictor
from model.signing import PublicKeys
from model.verify import VerifiedBundle
from tests.conftest import NO_BAR
from tests.fakes.gcs import FakeStorage
from tests.unit.model import toy


@pytest.fixture(scope="session")
def toy_bundle(tmp_path_factory: pytest.TempPathFactory) -> VerifiedBundle:
    """XGBoost on categories, whole numbers and nulls: three classes."""
    root = tmp_path_factory.mktemp("toy")
    loaded = spec.load(toy.write(root, names=toy.MIXED, nullable=True))
    return verify.read(train.train(loaded, dataset.load(loaded), NO_BAR, root, quiet=True).folder)


@pytest.fixture(scope="session")
def iris_predictor(iris: VerifiedBundle) -> Predictor:
    """The iris bundle served by ONNX Runtime in double precision."""
    return predictor.load(iris)


@pytest.fixture
def copy(bundles: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the penguins bundle that a test may damage."""
    return Path(shutil.copytree(bundles["penguins"], tmp_path / "copy"))


@pytest.fixture(scope="session")
def manifest(penguins: VerifiedBundle) -> Manifest:
    """The penguins' manifest."""
    return penguins.manifest


@contextmanager
def no_thread_left(fake: FakeStorage) -> Iterator[None]:
    """See to it that downloads still under way end while their server is there, or with it."""
    before = set(threading.enumerate())
    yield
    if fake.faults.waiting:
        fake.stop()
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("fetch "):
            thread.join(60)
            assert not thread.is_alive()


@dataclass(frozen=True)
class Signed:
    """The penguins bundle with a signature of the real tool, and the pair of keys."""

    folder: Path
    private: Path
    public: Path

    @property
    def keys(self) -> PublicKeys:
        """The public key, as the service reads it."""
        return signing.load_keys(self.public.read_bytes())

    @property
    def raw(self) -> bytes:
        """The signature file."""
        return (self.folder / signing.SIGNATURE).read_bytes()


@pytest.fixture(scope="session")
def signed(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Signed:
    """A signed bundle, made once, not to be changed."""
    root = tmp_path_factory.mktemp("signed")
    private, public = sign.make_keys(root / "keys")
    folder = Path(shutil.copytree(bundles["penguins"], root / bundles["penguins"].name))
    sign.sign(folder, private)
    return Signed(folder, private, public)


@pytest.fixture(scope="session")
def expected(penguins: VerifiedBundle) -> dict[str, str]:
    """What a signature of the penguins bundle is about: file → sha256."""
    files = {part.name: part.sha256 for part in penguins.manifest.files}
    return {"manifest.json": bundle.bare(penguins.digest), **files}
