"""M4, the attacks of The Update Framework, and M5, a racer that swaps the model file."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from model import predictor, sign, signing, verify
from model.errors import BundleError
from service.loader import NotReady
from tests.fakes.gcs import FakeStorage, Fault
from tests.soak.integrity_stock import Result, Stock, await_fetches, client_of, end_of, load, put, scratch

SIGNATURE = "signature.json"

RACER = """
import os, sys
path, good, bad = sys.argv[1], open(sys.argv[2], "rb").read(), open(sys.argv[3], "rb").read()
aside = sys.argv[4]
print("racing", flush=True)
while True:
    for content in (bad, good):
        with open(aside, "wb") as file:
            file.write(content)
        os.replace(aside, path)
    for content in (bad, good):
        with open(path, "r+b") as file:
            file.write(content)
"""


def m4(stock: Stock, load_seconds: int = 3) -> Result:
    """Try each attack on the loader, with a key configured and nothing to stand in."""
    with scratch() as folder:
        codes = {**_on_disk(stock, folder), **_from_bucket(stock, folder, load_seconds)}
    refused = sum(code not in ("served", "pinned") for code, is_attack in codes.values() if is_attack)
    controls = all(code == "pinned" for code, is_attack in codes.values() if not is_attack)
    attacks = [code for code, is_attack in codes.values() if is_attack]
    distinct = {code for attack, (code, is_attack) in codes.items() if is_attack and "variant" not in attack}
    lines = [f"{attack:<52} {code}" for attack, (code, _) in codes.items()]
    kept = refused == len(attacks) and controls and len(distinct) == 9
    found = f"{refused} of {len(attacks)} refused, {len(distinct)} codes"
    return Result("M4", "9 attacks refused, 9 codes", found, kept, lines)


def _on_disk(stock: Stock, root: Path) -> dict[str, tuple[str, bool]]:
    """Run the attacks on a folder; the second value tells an attack from a control that must be served."""
    theirs, theirs_public = sign.make_keys(root / "theirs")
    rotated = signing.PublicKeys({**stock.keys.by_hint, **signing.load_keys(theirs_public.read_bytes()).by_hint})
    only_new = signing.load_keys(theirs_public.read_bytes())
    hint = next(iter(stock.keys.by_hint))
    serial = json.loads((stock.new / "manifest.json").read_bytes())["serial"]

    def served(change: Callable[[Path], object], base: Path = stock.new, **settings: object) -> str:
        with scratch() as folder:
            copy = Path(shutil.copytree(base, folder / base.name))
            change(copy)
            return end_of(load(stock.settings(folder / "cache", copy, **settings)))

    def copy_in(name: str, source: Path) -> Callable[[Path], object]:
        return lambda copy: shutil.copy(source / name, copy / name)

    def resign(copy: Path) -> None:
        (copy / SIGNATURE).unlink()
        sign.sign(copy, theirs)

    def forge(copy: Path) -> None:
        resign(copy)
        edit(copy, lambda d: d["verificationMaterial"]["publicKey"].update(hint=hint))

    def edit(copy: Path, change: Callable[[dict], object]) -> None:
        document = json.loads((copy / SIGNATURE).read_bytes())
        change(document)
        (copy / SIGNATURE).write_bytes(json.dumps(document, separators=(",", ":")).encode())

    def second(copy: Path) -> None:
        bad = {"sig": "AAAA", "keyid": ""}
        edit(copy, lambda d: d["dsseEnvelope"]["signatures"].append(bad))

    def nothing(copy: Path) -> None:
        pass

    expired = stock.variant(root / "expired", expires="2020-01-01T00:00:00Z")
    return {
        "control: the bundle as it is": (served(nothing, min_serial=serial), False),
        "rollback to an older signed bundle": (served(nothing, stock.old, min_serial=serial), True),
        "freeze": (served(nothing, expired), True),
        "mix-and-match: manifest of A, model of B": (served(copy_in("model.onnx", stock.other)), True),
        "mix-and-match, variant: signature of A on B": (served(copy_in(SIGNATURE, stock.old)), True),
        "wrong key that claims to be ours": (served(forge), True),
        "wrong key, variant: under its own name": (served(resign), True),
        "unsigned": (served(lambda copy: (copy / SIGNATURE).unlink()), True),
        "two signatures, one bad": (served(second), True),
        "rotated key: the old one is configured no longer": (served(nothing, public_keys=only_new), True),
        "control: both configured, old key": (served(nothing, public_keys=rotated), False),
        "control: both configured, new key": (served(resign, public_keys=rotated), False),
    }


def _from_bucket(stock: Stock, root: Path, load_seconds: int) -> dict[str, tuple[str, bool]]:
    """Run the attacks that need a server."""
    codes = {}
    attacks = {
        "endless data": Fault("endless", match="model.onnx", times=None),
        "endless data, variant: the manifest": Fault("endless", match="manifest.json", times=None),
        "slow retrieval": Fault("drip", match="model.onnx", times=None, at=10, seconds=0.2),
    }
    for number, (attack, fault) in enumerate(attacks.items()):
        with FakeStorage() as fake, client_of(fake.url) as client:
            uri = put(fake, stock.new)
            fake.faults.add(fault)
            limit = load_seconds if fault.kind == "drip" else 8
            settings = stock.settings(root / f"cache{number}", uri, stock.new.name, load_seconds=limit)
            state = load(settings, client)
            assert isinstance(state, NotReady) or end_of(state) == "pinned"
            codes[attack] = (end_of(state), True)
            fake.stop()
            await_fetches()
    return codes


def m5(stock: Stock, loads: int = 1000) -> Result:
    """Load while another process writes hostile bytes over the model file and takes them back, again and again."""
    known = stock.answers(predictor.load(verify.read(stock.new)))
    ends: Counter[str] = Counter()
    unhashed = 0
    with scratch() as folder:
        copy = Path(shutil.copytree(stock.new, folder / stock.new.name))
        raw = bytearray((stock.new / "model.onnx").read_bytes())
        for at in range(len(raw) // 2, len(raw) // 2 + 64):
            raw[at] ^= 0xFF
        (folder / "bad").write_bytes(raw)
        command = [copy / "model.onnx", stock.new / "model.onnx", folder / "bad", folder / "aside"]
        with subprocess.Popen([sys.executable, "-c", RACER, *map(str, command)], stdout=subprocess.PIPE) as racer:
            try:
                assert racer.stdout is not None
                assert racer.stdout.readline() == b"racing\n"
                for _ in range(loads):
                    try:
                        found = verify.read(copy, stock.new.name, stock.keys)
                        answers = stock.answers(predictor.load(found))
                    except BundleError as error:
                        ends[error.code] += 1
                        unhashed += error.code in ("golden_mismatch", "engine_refused")
                        continue
                    ends["served"] += 1
                    hashes = {name: hashlib.sha256(payload).hexdigest() for name, payload in found.files.items()}
                    is_named = hashes == {str(part.name): part.sha256 for part in found.manifest.files}
                    unhashed += not (is_named and np.array_equal(answers, known))
                assert racer.poll() is None
            finally:
                racer.kill()
    lines = [f"{code:<24} {count:>5}" for code, count in sorted(ends.items())]
    # a race that is never lost, or never won, would prove nothing
    kept = unhashed == 0 and ends["served"] > 0 and sum(ends.values()) > ends["served"]
    return Result("M5", f"0 of {loads} loads unhashed bytes", f"{unhashed} of {loads}", kept, lines)
