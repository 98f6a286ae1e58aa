"""What the input soak works with: trained bundles, a place for them, and results."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from model import dataset, predictor, spec, train, verify
from model.predictor import Predictor
from tests.conftest import NO_BAR, ROOT, quick_spec
from tests.integration import servers
from tests.integration.servers import Server
from tests.soak.integrity_stock import Result, scratch
from tests.unit.service import conftest as plots

__all__ = ["ROOT", "Bench", "Result", "scratch", "trained"]


@dataclass
class Bench:
    """Models, and servers of them, each started when it is first asked for.

    Attributes:
        seconds: how long to fuzz.
        attack_seconds: how long clients attack beside honest ones.
    """

    root: Path
    models: dict[str, Path]
    seconds: int
    attack_seconds: int = 30
    _servers: dict[frozenset[tuple[str, str]], Server] = field(default_factory=dict)

    def server(self, model: str = "penguins", purpose: str = "", **settings: str) -> Server:
        """Return a ready server of a model; one for a purpose of its own has had no request yet."""
        wanted = {"MODEL_URI": str(self.models[model]), **settings}
        key = frozenset({**wanted, "purpose": purpose}.items())
        if key not in self._servers:
            folder = self.root / f"server-{len(self._servers)}"
            folder.mkdir()
            own = {"MODEL_CACHE_DIR": str(folder / "cache"), "ROOKERY_BAKED_BUNDLE": str(folder / "none")}
            self._servers[key] = servers.start({**own, **wanted}, folder)
            self._servers[key].wait_until("/health/ready", 200)
        return self._servers[key]

    def predictor(self, model: str) -> Predictor:
        """Return a model in this process."""
        return predictor.load(verify.read(self.models[model]))

    def stop(self) -> None:
        """Stop every server."""
        for server in self._servers.values():
            server.stop()


def trained(root: Path) -> dict[str, Path]:
    """Train a bundle of each kind: numbers alone, another engine, and one with whole numbers, nulls and texts."""
    specs = {name: quick_spec(name, root) for name in ("penguins", "iris")}
    specs |= {name: root / f"{name}.toml" for name in ("plots", "narrow")}
    specs["plots"].write_text(plots.PLOTS_SPEC)
    # the same within what a float tells apart: a document cannot say that 2^53 + 1 is read as 2^53
    narrow = plots.PLOTS_SPEC.replace("9007199254740992", "1000000").replace('name = "plots"', 'name = "narrow"')
    specs["narrow"].write_text(narrow)
    (root / "plots.csv").write_text(plots._plots_csv())
    folders = {}
    for name, path in specs.items():
        loaded = spec.load(path)
        folders[name] = train.train(loaded, dataset.load(loaded), NO_BAR, root / "bundles", quiet=True).folder
    return folders
