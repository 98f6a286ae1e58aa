"""Seeded damage to model files: random bytes, and edits that keep JSON or ONNX well-formed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from random import Random

Edit = Callable[[bytes, Random], bytes]

WHOLE = [-1, -2, 1, 2, 3, 7, 64, 4096, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1, -(2**31), -(2**63), 10**30]
REAL = [0.0, -0.0, 1.5, -1e30, 3.4e38, 1e39, 1e308, 5e-324, float("nan"), float("inf"), float("-inf")]
TEXTS = [
    "",
    "0",
    "1",
    "2",
    "-1",
    "5",
    "99999999",
    "1e9",
    "nan",
    "[]",
    "[5E-1]",
    "[nan]",
    "x" * 5000,
    "5E-1",
    "[1E99,0,0]",
]
NAMES = ["gbtree", "gblinear", "dart", "binary:logistic", "multi:softprob", "multi:softmax", "reg:squarederror"]
NAMES += ["rank:ndcg", "survival:aft", "binary:hinge", "count:poisson", "reg:quantileerror"]
NODE_ARRAYS = ["left_children", "right_children", "parents", "split_indices", "split_type", "default_left"]


def damage_bytes(payload: bytes, random: Random) -> bytes:
    """Flip a bit, truncate, zero a run, or delete a run."""
    damaged = bytearray(payload)
    start = random.randrange(len(damaged))
    length = random.choice([1, 2, 4, 8, 64, 512])
    kind = random.randrange(4)
    if kind == 0:
        damaged[start] ^= 1 << random.randrange(8)
    elif kind == 1:
        del damaged[start:]
    elif kind == 2:
        damaged[start : start + length] = bytes(len(damaged[start : start + length]))
    else:
        del damaged[start : start + length]
    return bytes(damaged)


def edit_json(payload: bytes, random: Random) -> bytes:
    """Edit a `model.json` once, sometimes twice; it stays JSON, or nearly."""
    if random.random() < 0.06:
        return _edit_text(payload, random)
    document = json.loads(payload)
    for _ in range(random.choice([1, 1, 1, 2])):
        # after a first edit there may be nothing left to edit
        with contextlib.suppress(LookupError, TypeError, ValueError, AttributeError):
            _edit_tree(document, random) if random.random() < 0.45 else _edit_anything(document, random)
    return json.dumps(document, separators=(",", ":")).encode()


def _edit_text(payload: bytes, random: Random) -> bytes:
    """Change what is between the values: white space, escapes, a key given twice, another format's first bytes."""
    at = random.choice([i for i, byte in enumerate(payload[:20_000]) if byte == ord(",")])
    changes: list[Callable[[], bytes]] = [
        lambda: b" " + payload,
        lambda: b"{\n" + payload[1:],
        lambda: b"\xef\xbb\xbf" + payload,
        lambda: payload + payload,
        lambda: payload + b"\0" * 9,
        lambda: payload[:at] + b" \t\r\n" + payload[at:],
        lambda: b"{" + random.choice([b"L", b"i", b"U", b"$", b"#"]) + payload[1:],
        lambda: payload.replace(b'"left_children"', b'"l\\u0065ft_children"', 1),
        lambda: payload.replace(b'"left_children":[', b'"left_children":[1,2,3],"left_children":[', 1),
        lambda: payload.replace(b'"num_nodes":', b'"num_nodes":"99999","num_nodes":', 1),
        lambda: payload.replace(b'"trees":', b'"trees":[],"trees":', 1),
        lambda: payload.replace(b'"gbtree"', b'"gbtree","name":"dart"', 1),
        lambda: b"[" * random.choice([10, 3000, 100_000]) + payload,
        lambda: payload.replace(b"[", b"[" * 5000, 1),
        lambda: payload.replace(b"0,", b"00,", 1),
        lambda: payload.replace(b"1,", b"1" * 5000 + b",", 1),
        lambda: b"",
    ]
    return random.choice(changes)()


def _edit_tree(document: dict, random: Random) -> None:
    """Edit the nodes of one tree, all arrays still of one length and type."""
    forest = document["learner"]["gradient_booster"]["model"]
    tree = random.choice(forest["trees"])
    size = len(tree["left_children"])
    node, kind = random.randrange(size), random.randrange(9)
    if kind <= 2:
        near = [0, node, size - 1, size, size + 1, random.randrange(size)]
        tree[random.choice(NODE_ARRAYS)][node] = random.choice([*near, *WHOLE[:-1]])
    elif kind == 3:
        tree["left_children"][node], tree["right_children"][node] = random.randrange(size), random.randrange(size)
    elif kind == 4:
        tree["split_conditions"][node] = random.choice(REAL)
    elif kind == 5:
        forest["tree_info"][random.randrange(len(forest["tree_info"]))] = random.choice(WHOLE[:9])
    elif kind == 6:
        key = random.choice(["iteration_indptr", "tree_info", "trees"])
        forest[key] = random.choice([forest[key][:-1], forest[key] * 2, forest[key][::-1]])
    elif kind == 7:
        tree["tree_param"][random.choice(list(tree["tree_param"]))] = random.choice(TEXTS)
    else:
        tree["split_type"][node] = 1
        tree["categories"], tree["categories_nodes"] = random.choice([[], [3], [2**31 - 1], [-5]]), [node]
        tree["categories_segments"], tree["categories_sizes"] = [random.choice([0, 10**6])], [random.choice([1, 10**6])]


def _edit_anything(document: dict, random: Random) -> None:
    """Walk to a random place and change what is there."""
    parent, key = document, random.choice(list(document))
    while isinstance(parent[key], (dict, list)) and parent[key] and random.random() < 0.9:
        parent = parent[key]
        key = random.choice(list(parent)) if isinstance(parent, dict) else random.randrange(len(parent))
    value, kind = parent[key], random.randrange(8)
    if kind == 0:
        del parent[key]
    elif kind == 1:
        parent[key] = random.choice([None, True, {}, [], [[]], "", 0, -1, 1.5, {"a": 1}, [0] * 9, [1.5], ["x"]])
    elif kind == 2 and isinstance(parent, dict):
        parent[key + random.choice(["x", "_", "2"])] = parent.pop(key) if random.random() < 0.5 else value
    elif kind == 3 and isinstance(parent, list):
        parent.insert(key, value)
    elif kind == 4 and isinstance(parent, list):
        other = random.randrange(len(parent))
        parent[key], parent[other] = parent[other], parent[key]
    elif isinstance(value, bool) or value is None:
        parent[key] = 1
    elif isinstance(value, str):
        parent[key] = random.choice(TEXTS + NAMES)
    elif isinstance(value, (int, float)):
        parent[key] = random.choice([*WHOLE, *REAL, str(value), float(value), value + 1, -value])
    elif isinstance(value, list):
        parent[key] = random.choice([value[:-1], value[1:], value * 2, value[::-1], [], [*value, 0], value * 50])
    else:
        parent[key] = random.choice([{}, [], {**value, "extra": 1}, {k: [] for k in value}])
