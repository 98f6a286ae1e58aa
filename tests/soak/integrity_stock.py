"""What the integrity soak works with: signed bundles of one contract, a cache that holds one of them, a fake bucket."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from google.auth.credentials import Credentials
from google.cloud import storage

from model import bundle, sign, verify
from model import manifest as manifests
from model.cache import HEX, LAST_KNOWN_GOOD, Cache
from model.errors import BundleError
from model.predictor import Predictor
from model.signing import PublicKeys, load_keys
from model.store import Bucket, parse
from service.config import Settings
from service.loader import Loader, Ready, State
from tests.fakes.gcs import FakeStorage, tidy

BUCKET = "models"
NATIVE = {"golden_mismatch", "engine_refused", "load_failed"}
NOWHERE = Path("/nonexistent/bundle")


class _Account(Credentials):
    """Credentials that never run out, and that can be fetched anew after a 401 as real ones can."""

    def __init__(self) -> None:
        super().__init__()
        self.token = "fake"

    def refresh(self, request: object) -> None:
        """Keep the token."""


@dataclass
class Result:
    """What one promise asked and what was found.

    Attributes:
        kept: whether it is.
        lines: a table to print below, one string a row.
    """

    promise: str
    asked: str
    found: str
    kept: bool
    lines: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Stock:
    """Signed bundles that differ in version and serial only: 1, 2, 3; and one of another contract."""

    root: Path
    private: Path
    keys: PublicKeys
    bundles: tuple[Path, Path, Path]
    other: Path
    rows: np.ndarray

    @cached_property
    def contract(self) -> str:
        """What all of one kind take and answer, as `make publish` prints it."""
        return manifests.contract(verify.read(self.old).manifest)

    @property
    def old(self) -> Path:
        """The one that is the last known good."""
        return self.bundles[0]

    @property
    def new(self) -> Path:
        """The one that is pinned."""
        return self.bundles[1]

    def variant(self, root: Path, private: Path | None = None, **changes: Any) -> Path:
        """Write, and sign, the bundle with another manifest."""
        source = verify.read(self.old)
        written = bundle.write(root, msgspec.structs.replace(source.manifest, **changes), source.files)
        sign.sign(written.folder, private or self.private)
        return written.folder

    def seed(self, cache: Path, folder: Path | None = None) -> Path:
        """Make a bundle the last known good one of a cache folder."""
        kept = Cache(cache)
        found = verify.read(folder or self.old, None, self.keys)
        kept.keep(found)
        kept.remember(found.digest)
        return cache

    def settings(self, cache: Path, uri: object, digest: str | None = None, **more: Any) -> Settings:
        """Settings of a service with a key, and with nothing baked in."""
        pin = f"sha256:{digest}" if digest else None
        plain = Settings(
            model_uri=str(uri), model_digest=pin, public_keys=self.keys, cache_dir=cache, baked_bundle=NOWHERE
        )
        return replace(plain, **more)

    def answers(self, found: Predictor) -> np.ndarray:
        """Probabilities for some rows."""
        return found.predict(self.rows).probabilities


def make(root: Path, plain: Path, other: Path) -> Stock:
    """Sign copies of two bundles with a fresh key."""
    private, public = sign.make_keys(root / "keys")
    source = verify.read(plain)
    rows = np.array(
        [[np.nan if v is None else v for v in row] for row in source.manifest.golden.rows[:32]], dtype=np.float32
    )
    keys = load_keys(public.read_bytes())
    copies = tuple(Path(shutil.copytree(folder, root / "signed" / folder.name)) for folder in (plain, other))
    for copy in copies:
        sign.sign(copy, private)
    first = Stock(root, private, keys, (copies[0],) * 3, copies[1], rows)
    later = [first.variant(root / "signed", version=f"{n}.0", serial=source.manifest.serial + n) for n in (1, 2)]
    return replace(first, bundles=(copies[0], later[0], later[1]))


def put(fake: FakeStorage, folder: Path) -> str:
    """Put a bundle into the fake, damaged or not, and return its address."""
    for file in folder.iterdir():
        fake.put(BUCKET, f"penguins/{folder.name}/{file.name}", file.read_bytes())
    return f"gs://{BUCKET}/penguins/{folder.name}/"


@contextmanager
def client_of(url: str) -> Iterator[storage.Client]:
    """A real client of an address, whatever is there."""
    made = storage.Client(project="fake", credentials=_Account(), client_options={"api_endpoint": url})
    try:
        yield tidy(made)
    finally:
        made.close()


def load(settings: Settings, client: storage.Client | None = None) -> State:
    """Run the service's own loader."""
    return Loader(settings, lambda uri: Bucket(parse(uri), client)).load()


def end_of(state: State) -> str:
    """Name what serves: an origin, or the reason code."""
    return state.attempts[-1].origin if isinstance(state, Ready) else state.code


def problems(cache: Path, keys: PublicKeys | None) -> list[str]:
    """What a cache folder holds beside whole bundles and small notes; nothing where all is well."""
    found = []
    for file in (f for folder in (cache, cache / "bundles") if folder.is_dir() for f in folder.iterdir()):
        is_bundle = file.parent.name == "bundles" and HEX.fullmatch(file.name)
        if is_bundle:
            try:
                verify.read(file, file.name, keys)
            except BundleError as error:
                found.append(f"{file.name[:12]}: {error.code}")
        elif file.name.startswith(".") and not file.name.startswith(".lock-"):
            found.append(f"left over: {file.name}")
    pointer = cache / LAST_KNOWN_GOOD
    if pointer.exists() and not HEX.fullmatch(pointer.read_text().strip()):
        found.append("last-known-good is not a digest")
    return found


def broken(cache: Path, keys: PublicKeys | None) -> list[str]:
    """The same without leftovers, which nothing ever reads."""
    return [line for line in problems(cache, keys) if not line.startswith("left over")]


def await_fetches(seconds: float = 10) -> None:
    """Wait for the downloads that were given up; their servers are gone by now."""
    for thread in threading.enumerate():
        if thread.name.startswith("fetch "):
            thread.join(seconds)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that goes away."""
    with tempfile.TemporaryDirectory(prefix="rookery-soak-") as folder:
        yield Path(folder)
