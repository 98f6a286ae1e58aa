"""Only what a configured key signed, about exactly these files, in exactly one form, is accepted."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

import numpy as np
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from model import signing
from model.errors import BundleError, KeyFileError
from tests.unit.model.conftest import Signed


def pem(key) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture(scope="module")
def other_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def own_key(signed: Signed) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(signed.private.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def code_of(raw: bytes | None, signed: Signed, expected: Mapping[str, str]) -> str:
    with pytest.raises(BundleError) as caught:
        signing.verify(raw, signed.keys, expected)
    return caught.value.code


def compact(document) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def statement_of(raw: bytes) -> dict:
    return json.loads(base64.b64decode(json.loads(raw)["dsseEnvelope"]["payload"]))


def seal(raw: bytes, payload: bytes, key: ec.EllipticCurvePrivateKey) -> bytes:
    """Sign another payload the way the tool does."""
    document = json.loads(raw)
    kind = document["dsseEnvelope"]["payloadType"].encode()
    encoded = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    signature = key.sign(encoded, ec.ECDSA(hashes.SHA256()))
    document["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    document["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    return compact(document)


def test_signature_of_the_tool_is_good(signed: Signed, expected):
    assert signing.verify(signed.raw, signed.keys, expected) is None


def test_unsigned_is_refused_where_a_key_is_configured(signed: Signed, expected):
    assert code_of(None, signed, expected) == "signature_missing"


def test_wrong_key_is_refused(signed: Signed, expected, other_key):
    with pytest.raises(BundleError, match="which is not configured") as caught:
        signing.verify(signed.raw, signing.load_keys(pem(other_key)), expected)

    assert caught.value.code == "signature_wrong_key"


def test_signature_of_another_key_under_our_hint_is_forged(signed: Signed, expected, other_key):
    payload = base64.b64decode(json.loads(signed.raw)["dsseEnvelope"]["payload"])

    assert code_of(seal(signed.raw, payload, other_key), signed, expected) == "signature_invalid"


def test_statement_exchanged_under_the_signature_is_forged(signed: Signed, expected):
    document = json.loads(signed.raw)
    statement = statement_of(signed.raw)
    statement["predicate"]["resources"][0]["digest"] = "0" * 64
    document["dsseEnvelope"]["payload"] = base64.b64encode(compact(statement)).decode()

    assert code_of(compact(document), signed, expected) == "signature_invalid"


def test_two_keys_are_accepted_while_one_is_rotated(signed: Signed, expected, own_key, other_key):
    for both in (pem(own_key) + pem(other_key), pem(other_key) + b"\n# the old one\n" + pem(own_key)):
        keys = signing.load_keys(both)

        assert len(keys.by_hint) == 2
        assert signing.verify(signed.raw, keys, expected) is None


def test_rotated_key_is_refused_once_it_is_gone(signed: Signed, expected, own_key, other_key):
    payload = base64.b64decode(json.loads(signed.raw)["dsseEnvelope"]["payload"])
    hints = {name: next(iter(signing.load_keys(pem(key)).by_hint)) for name, key in (("o", own_key), ("n", other_key))}
    new = seal(signed.raw, payload, other_key).replace(hints["o"].encode(), hints["n"].encode())

    assert signing.verify(new, signing.load_keys(pem(other_key)), expected) is None
    with pytest.raises(BundleError) as caught:
        signing.verify(signed.raw, signing.load_keys(pem(other_key)), expected)
    assert caught.value.code == "signature_wrong_key"


OTHER_FILES = {
    "other manifest": lambda files: {**files, "manifest.json": "0" * 64},
    "one more": lambda files: {**files, "notes.txt": "0" * 64},
    "one fewer": lambda files: {name: digest for name, digest in files.items() if name != "model.json"},
    "exchanged": lambda files: {**files, "model.json": files["model.onnx"], "model.onnx": files["model.json"]},
    "none": lambda files: {},
}


@pytest.mark.parametrize("change", OTHER_FILES.values(), ids=OTHER_FILES)
def test_signature_about_other_files_is_refused(signed: Signed, expected, change):
    assert code_of(signed.raw, signed, change(expected)) == "signature_other_files"


def _edit(change):
    def edit(raw: bytes) -> bytes:
        document = json.loads(raw)
        change(document)
        return compact(document)

    return edit


def _set_hint(value):
    return _edit(lambda d: d["verificationMaterial"]["publicKey"].update(hint=value))


def _envelope(**changes):
    return _edit(lambda d: d["dsseEnvelope"].update(changes))


MALFORMED = {
    "empty": lambda raw: b"",
    "not JSON": lambda raw: b"signature",
    "a list": lambda raw: b"[]",
    "a number": lambda raw: b"1",
    "null": lambda raw: b"null",
    "not UTF-8": lambda raw: b"\xff\xfe" + raw,
    "deep": lambda raw: b"[" * 60_000,
    "cut short": lambda raw: raw[:-1],
    "blank behind it": lambda raw: raw + b" ",
    "line end behind it": lambda raw: raw + b"\n",
    "indented": lambda raw: json.dumps(json.loads(raw), indent=1).encode(),
    "UTF-16": lambda raw: raw.decode().encode("utf-16"),
    "keys in another order": lambda raw: json.dumps(json.loads(raw), separators=(",", ":"), sort_keys=True).encode(),
    "key twice": lambda raw: raw.replace(b"{", b'{"mediaType":"x",', 1),
    "one key more": _edit(lambda d: d.update(surprise=1)),
    "escaped letter": lambda raw: raw.replace(b'"mediaType"', b'"media\\u0054ype"'),
    "no envelope": _edit(lambda d: d.pop("dsseEnvelope")),
    "envelope is a list": _edit(lambda d: d.update(dsseEnvelope=[])),
    "signatures are a number": _envelope(signatures=1),
    "signature is a text": _envelope(signatures=["x"]),
    "signatures by name": _envelope(signatures={"a": {}}),
    "payload is a number": _envelope(payload=1),
    "payload is not base64": _envelope(payload="?"),
    "payload is not ASCII": _envelope(payload="é"),
    "other payload type": _envelope(payloadType="text/plain"),
    "other media type": _edit(lambda d: d.update(mediaType="application/json")),
    "a log entry": _edit(lambda d: d["verificationMaterial"].update(tlogEntries=[{}])),
    "a key id": _edit(lambda d: d["dsseEnvelope"]["signatures"][0].update(keyid="x")),
    "no hint": _edit(lambda d: d["verificationMaterial"].pop("publicKey")),
    "hint is a list": _set_hint([]),
    "hint is a number": _set_hint(1),
    "hint is null": _set_hint(None),
    "hint is half a character": _set_hint("\ud800"),
    "hint is short": _set_hint("abc"),
    "hint in capitals": _set_hint("AB" * 32),
}


@pytest.mark.parametrize("change", MALFORMED.values(), ids=MALFORMED)
def test_other_form_than_the_tools_is_refused(signed: Signed, expected, change):
    assert code_of(change(signed.raw), signed, expected) == "signature_malformed"


def test_loose_bits_of_base64_are_refused(signed: Signed, expected, own_key):
    payload = base64.b64decode(json.loads(signed.raw)["dsseEnvelope"]["payload"])
    # two of three lengths of a signature leave loose bits
    made = (json.loads(seal(signed.raw, payload, own_key)) for _ in range(1000))
    document = next(one for one in made if one["dsseEnvelope"]["signatures"][0]["sig"].endswith("="))
    assert signing.verify(compact(document), signed.keys, expected) is None
    text = document["dsseEnvelope"]["signatures"][0]["sig"]
    body = text.rstrip("=")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    loose = body[:-1] + alphabet[alphabet.index(body[-1]) | 1] + "=" * (len(text) - len(body))
    assert base64.b64decode(loose) == base64.b64decode(text)
    document["dsseEnvelope"]["signatures"][0]["sig"] = loose

    assert code_of(compact(document), signed, expected) == "signature_malformed"


@pytest.mark.parametrize("bad_first", [False, True], ids=["bad one second", "bad one first"])
def test_two_signatures_are_refused_even_if_one_is_good(signed: Signed, expected, bad_first):
    document = json.loads(signed.raw)
    good = document["dsseEnvelope"]["signatures"][0]
    bad = {"sig": base64.b64encode(b"bad").decode(), "keyid": ""}
    document["dsseEnvelope"]["signatures"] = [bad, good] if bad_first else [good, bad]

    assert code_of(compact(document), signed, expected) == "signature_count"


def test_no_signature_in_the_envelope_is_refused(signed: Signed, expected):
    assert code_of(_envelope(signatures=[])(signed.raw), signed, expected) == "signature_count"


def _resources(change):
    def edit(statement: dict) -> None:
        change(statement["predicate"]["resources"])

    return edit


STATEMENTS = {
    "other statement": lambda s: s.update(_type="x"),
    "other predicate": lambda s: s.update(predicateType="x"),
    "hashed in shards": lambda s: s["predicate"]["serialization"].update(method="shards"),
    "other hash": _resources(lambda r: r[0].update(algorithm="blake2b")),
    "hash is a list": _resources(lambda r: r[0].update(algorithm=[])),
    "name missing": _resources(lambda r: r[0].pop("name")),
    "resource is a text": _resources(lambda r: r.append("x")),
    "no predicate": lambda s: s.pop("predicate"),
    "no resources": _resources(lambda r: r.clear()),
    "file twice": _resources(lambda r: r.append(r[0])),
}


@pytest.mark.parametrize("change", STATEMENTS.values(), ids=STATEMENTS)
def test_statement_about_something_else_is_refused_though_signed(signed: Signed, expected, own_key, change):
    statement = statement_of(signed.raw)
    change(statement)

    assert code_of(seal(signed.raw, compact(statement), own_key), signed, expected) == "signature_malformed"


@pytest.mark.parametrize("payload", [b"", b"[]", b"\xff", b"[" * 40_000], ids=["empty", "list", "not UTF-8", "deep"])
def test_signed_nonsense_is_refused(signed: Signed, expected, own_key, payload):
    assert code_of(seal(signed.raw, payload, own_key), signed, expected) == "signature_malformed"


CHANGES = {
    "one bit": lambda raw, at, random: raw[:at] + bytes([raw[at] ^ 1 << int(random.integers(8))]) + raw[at + 1 :],
    "another byte": lambda raw, at, random: raw[:at] + bytes([raw[at] ^ int(random.integers(1, 256))]) + raw[at + 1 :],
    "letter case": lambda raw, at, random: raw[:at] + bytes([raw[at] ^ 32]) + raw[at + 1 :],
    "removed": lambda raw, at, random: raw[:at] + raw[at + 1 :],
    "doubled": lambda raw, at, random: raw[:at] + raw[at : at + 1] * 2 + raw[at + 1 :],
    "blank before": lambda raw, at, random: raw[:at] + b" " + raw[at:],
    "cut": lambda raw, at, random: raw[:at],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_byte_of_the_signature_file_counts(signed: Signed, expected, change):
    random = np.random.default_rng(23)
    raw = signed.raw
    places = {0, len(raw) - 1, *random.choice(len(raw), 200, replace=False).tolist()}
    codes = {code_of(change(raw, int(at), random), signed, expected) for at in sorted(places)}

    assert codes <= {"signature_malformed", "signature_wrong_key", "signature_invalid", "signature_count"}


def test_signature_bytes_are_strict_der(signed: Signed, expected):
    document = json.loads(signed.raw)
    der = base64.b64decode(document["dsseEnvelope"]["signatures"][0]["sig"])
    r, _ = decode_dss_signature(der)
    assert r > 0
    document["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(der + b"\x00").decode()

    assert code_of(compact(document), signed, expected) == "signature_invalid"


NO_KEYS = {
    "empty": (b"", "holds no PEM public key"),
    "text": (b"a key", "holds no PEM public key"),
    "no end": (b"-----BEGIN PUBLIC KEY-----\nAAAA\n", "holds no PEM public key"),
    "garbage": (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "cannot be read"),
    "RSA": (pem(rsa.generate_private_key(65537, 2048)), "not ECDSA on P-256; make keys writes such a pair"),
    "Ed25519": (pem(ed25519.Ed25519PrivateKey.generate()), "not ECDSA on P-256"),
    "P-384": (pem(ec.generate_private_key(ec.SECP384R1())), "not ECDSA on P-256"),
}


@pytest.mark.parametrize(("raw", "reason"), NO_KEYS.values(), ids=NO_KEYS)
def test_what_is_no_key_is_refused(raw, reason):
    with pytest.raises(KeyFileError, match=reason):
        signing.load_keys(raw)


def test_one_bad_key_beside_a_good_one_is_refused(signed: Signed):
    with pytest.raises(KeyFileError, match="not ECDSA on P-256"):
        signing.load_keys(signed.public.read_bytes() + NO_KEYS["P-384"][0])


def test_private_key_is_no_public_key(signed: Signed):
    with pytest.raises(KeyFileError, match="holds no PEM public key") as caught:
        signing.load_keys(signed.private.read_bytes())

    assert str(caught.value) == caught.value.reason
