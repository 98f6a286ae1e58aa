"""M1: bundles damaged on disk, each through the service's loader with a key and a bundle that may stand in."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from random import Random

import numpy as np

from model import predictor, verify
from service.loader import Ready
from tests.soak.integrity_stock import NATIVE, Result, Stock, end_of, load, scratch


def flip(raw: bytes, at: int, random: Random) -> bytes:
    """Turn one bit over."""
    damaged = bytearray(raw)
    damaged[at] ^= 1 << random.randrange(8)
    return bytes(damaged)


def delete(raw: bytes, at: int, random: Random) -> bytes:
    """Take out a run of up to 64 bytes."""
    return raw[:at] + raw[at + random.randint(1, 64) :]


def zero(raw: bytes, at: int, random: Random) -> bytes:
    """Overwrite 512 bytes with zeros."""
    end = min(at + 512, len(raw))
    return raw[:at] + bytes(end - at) + raw[end:]


KINDS: dict[str, Callable[[bytes, int, Random], bytes]] = {
    "flip": flip,
    "truncate": lambda raw, at, _: raw[:at],
    "delete": delete,
    "zero": zero,
}


def m1(stock: Stock, offsets: int = 1000) -> Result:
    """Damage every file at seeded offsets in four ways; every other time the digest is pinned as well."""
    random, contract = Random(1), stock.contract
    known = stock.answers(predictor.load(verify.read(stock.old)))
    ends: Counter[tuple[str, str, str]] = Counter()
    wrong: list[str] = []
    good = 0
    names = sorted(file.name for file in stock.new.iterdir())
    with scratch() as folder:
        cache = stock.seed(folder / "cache")
        copy = folder / stock.new.name
        shutil.copytree(stock.new, copy)
        for number in range(offsets * len(KINDS)):
            kind, name = list(KINDS)[number % 4], names[number // 4 % len(names)]
            raw = (stock.new / name).read_bytes()
            damaged = raw
            while damaged == raw:
                at = random.randrange(len(raw))
                damaged = KINDS[kind](raw, at, random)
            (copy / name).write_bytes(damaged)
            is_pinned = number // (4 * len(names)) % 2 == 0
            pin = stock.new.name if is_pinned else None
            state = load(stock.settings(cache, copy, pin, model_contract=contract))
            (copy / name).write_bytes(raw)
            code = state.attempts[0].code or "served"
            fine = isinstance(state, Ready) and code not in {*NATIVE, "served"} and end_of(state) == "last_known_good"
            fine = fine and state.digest == f"sha256:{stock.old.name}"
            fine = fine and np.array_equal(stock.answers(state.predictor), known)
            good += fine
            ends[name, code, end_of(state)] += 1
            if not fine:
                wrong.append(f"{name} {kind} at {at}, pinned {is_pinned}: {code}, then {end_of(state)}")
        # the undamaged copy is served, so the damage is what was refused
        served = end_of(load(stock.settings(cache, copy, stock.new.name)))
    asked = offsets * len(KINDS)
    lines = [f"{name:<16} {code:<24} then {end:<16} {count:>5}" for (name, code, end), count in sorted(ends.items())]
    found = f"{good} refused before the native loader, last good identical"
    return Result("M1", f"{asked} damages refused", found, good == asked and served == "pinned", lines + wrong[:10])
