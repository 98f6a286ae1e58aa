"""Signs bundles with OpenSSF Model Signing: `python -m model.sign keys`, `python -m model.sign bundle`."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model import signing, verify
from model.bundle import replace, resolve
from model.command_line import Parser
from model.errors import KeyFileError, ModelError
from model.signing import SIGNATURE

PRIVATE, PUBLIC = "signing-private.pem", "signing-public.pem"

HELP_END = f"""\
exit status: 0 done; 2 keys or bundle cannot be used, or wrong usage

examples:
  python -m model.sign keys
  python -m model.sign bundle bundles/penguins --key keys/{PRIVATE}
"""


def make_keys(folder: Path) -> tuple[Path, Path]:
    """Write a development pair on the curve P-256; never over an existing one.

    Returns:
        The private and the public key's file.

    Raises:
        KeyFileError: there is a key already, private or public.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / PUBLIC).exists():
        raise KeyFileError(f"{folder / PUBLIC} exists; it is not written over")
    try:
        descriptor = os.open(folder / PRIVATE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise KeyFileError(f"{folder / PRIVATE} exists; it is not written over") from error
    with open(descriptor, "wb") as file:
        file.write(private)
    (folder / PUBLIC).write_bytes(public)
    return folder / PRIVATE, folder / PUBLIC


def sign(folder: Path, private_key: Path, password: str | None = None) -> Path:
    """Sign a bundle folder and check the signature the way the service does.

    Args:
        folder: a bundle that verifies.
        private_key: PEM file, ECDSA on P-256.
        password: of the key file, None if it has none.

    Returns:
        The signature file, inside the folder.

    Raises:
        BundleError: the bundle does not verify, or the signature just made does not.
        KeyFileError: the key cannot be used.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    bundle = verify.read(folder)
    secret = password.encode() if password else None
    try:
        key = serialization.load_pem_private_key(private_key.read_bytes(), secret)
        form = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        keys = signing.load_keys(form)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"{private_key} cannot be used: {str(error)[:200]}") from error
    hashing, openssf = _tool()
    ignored = hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / SIGNATURE
        config = openssf.Config().use_elliptic_key_signer(private_key=private_key, password=secret)
        config.set_hashing_config(ignored).sign(folder, made)
        raw = made.read_bytes()
    expected = {"manifest.json": bundle.digest.removeprefix("sha256:")}
    expected |= {str(part.name): part.sha256 for part in bundle.manifest.files}
    signing.verify(raw, keys, expected)
    replace(folder / SIGNATURE, raw)
    return folder / SIGNATURE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, or 2 if keys or bundle cannot be used."""
    parser = Parser(
        prog="python -m model.sign",
        description="Sign a bundle, so that a service with MODEL_PUBLIC_KEY serves no other.",
        epilog=HELP_END,
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    keys = verbs.add_parser("keys", help="make a development key pair")
    keys.add_argument("--json", action="store_true", help="print the files' names as JSON")
    keys.add_argument(
        "--out", type=Path, default=Path("keys"), help="folder for the pair (default: keys, ignored by git)"
    )
    one = verbs.add_parser("bundle", help="sign a bundle folder")
    one.add_argument("bundle", type=Path, help="the bundle folder, or a folder with a file `current`")
    one.add_argument("--key", type=Path, required=True, help="PEM file of the private key")
    one.add_argument("--json", action="store_true", help="print bundle and signature as JSON")
    given = parser.parse_args(arguments)
    try:
        if given.verb == "keys":
            private, public = make_keys(given.out)
            if given.json:
                print(json.dumps({"private": str(private), "public": str(public)}))
            else:
                print(f"{private} (keep it secret, give it to `make sign KEY={private}`)")
                print(f"{public} (MODEL_PUBLIC_KEY={public})")
        else:
            folder = resolve(given.bundle)
            signature = sign(folder, given.key)
            print(json.dumps({"bundle": str(folder), "signature": str(signature)}) if given.json else signature)
    except (ModelError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _tool() -> tuple[Any, Any]:
    """Return the signing tool's modules, which carry no types: how to hash, how to sign."""
    from model_signing import hashing, signing

    return hashing, signing


if __name__ == "__main__":
    sys.exit(main())
