"""Verifies who approved a bundle: OpenSSF Model Signing, checked with `cryptography` alone.

The signature file is a Sigstore bundle around a DSSE envelope around an in-toto statement that lists every file of the
folder with its sha256 (https://sigstore.github.io/model-transparency). Signing itself is `model.sign`, not the service.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model.errors import BundleError, KeyFileError

SIGNATURE = "signature.json"
MAX_SIGNATURE_BYTES = 64 << 10
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
PEM_BLOCK = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)
HINT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class PublicKeys:
    """The keys that may have signed a bundle: usually one, two while a key is rotated.

    Attributes:
        by_hint: the hint a signature carries (sha256 of the key's PEM form) → the key.
    """

    by_hint: Mapping[str, Any]


def load_keys(pem: bytes) -> PublicKeys:
    """Read one or more PEM public keys on the curve P-256.

    Raises:
        KeyFileError: there is no key, or one that is not an elliptic-curve key on P-256.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    found: dict[str, Any] = {}
    for block in PEM_BLOCK.findall(pem):
        try:
            key = serialization.load_pem_public_key(block)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise KeyFileError("holds a public key that cannot be read") from error
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
            raise KeyFileError("holds a key that is not ECDSA on P-256; make keys writes such a pair")
        form = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        found[hashlib.sha256(form).hexdigest()] = key
    if not found:
        raise KeyFileError("holds no PEM public key (-----BEGIN PUBLIC KEY-----)")
    return PublicKeys(found)


def verify(raw: bytes | None, keys: PublicKeys, expected: Mapping[str, str]) -> None:
    """Check that one of the keys signed exactly the expected files.

    Args:
        raw: the bytes of `signature.json`, None if there is none.
        keys: who may sign.
        expected: every file of the bundle, the manifest included → its sha256 in hex.

    Raises:
        BundleError: `signature_missing`, `signature_malformed` (also if not in the one form the signing tool writes),
            `signature_count`, `signature_wrong_key`, `signature_invalid` or `signature_other_files`.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    if raw is None:
        raise BundleError("signature_missing", f"a public key is configured, but the bundle has no {SIGNATURE}")
    hint, payload, signature = _open(raw)
    key = keys.by_hint.get(hint)
    if key is None:
        raise BundleError("signature_wrong_key", f"was signed with the key {hint[:16]}…, which is not configured")
    try:
        key.verify(signature, _pre_authentication_encoding(payload), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise BundleError("signature_invalid", f"{SIGNATURE} was not made with the configured key") from error
    if _resources(payload) != dict(expected):
        raise BundleError("signature_other_files", f"{SIGNATURE} is about other files than those of this bundle")


def _open(raw: bytes) -> tuple[str, bytes, bytes]:
    """Return key hint, payload and signature of a Sigstore bundle that has exactly the one canonical form."""
    try:
        document = json.loads(raw)
        envelope = document["dsseEnvelope"]
        signatures = envelope["signatures"]
        if len(signatures) != 1:
            raise BundleError("signature_count", f"{SIGNATURE} holds {len(signatures)} signatures; one is expected")
        hint = document["verificationMaterial"]["publicKey"]["hint"]
        if not HINT.fullmatch(hint):
            raise ValueError("not a hint that the signing tool writes")
        payload = base64.b64decode(envelope["payload"], validate=True)
        signature = base64.b64decode(signatures[0]["sig"], validate=True)
        canonical = _canonical(hint, payload, signature)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError("signature_malformed", f"{SIGNATURE} is not a model signature") from error
    if raw != canonical:
        raise BundleError("signature_malformed", f"{SIGNATURE} is not in the form that the signing tool writes")
    return hint, payload, signature


def _canonical(hint: str, payload: bytes, signature: bytes) -> bytes:
    """Return the only bytes that a signature file with these parts may have."""
    document = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _pre_authentication_encoding(payload: bytes) -> bytes:
    """Return what DSSE signs (https://github.com/secure-systems-lab/dsse, protocol version 1)."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _resources(payload: bytes) -> dict[str, str]:
    """Return file → sha256 of a signed statement; called only after the signature was found good."""
    try:
        statement = json.loads(payload)
        resources = statement["predicate"]["resources"]
        kinds = (statement["_type"], statement["predicateType"], statement["predicate"]["serialization"]["method"])
        if kinds != (STATEMENT_TYPE, PREDICATE_TYPE, "files") or {r["algorithm"] for r in resources} != {"sha256"}:
            raise BundleError("signature_malformed", "the signed statement is not one about files and their sha256")
        found = {resource["name"]: resource["digest"] for resource in resources}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError("signature_malformed", "the signed statement cannot be read") from error
    if len(found) != len(resources):
        raise BundleError("signature_malformed", "the signed statement names a file twice")
    return found
