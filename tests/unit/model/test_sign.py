"""Keys are never written over, and a bundle is signed only if the service would accept it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from model import sign, signing, verify
from model.errors import BundleError, KeyFileError
from tests.unit.model.conftest import Signed


def private_pem(key, password: bytes | None = None) -> bytes:
    how = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


def test_keys_are_a_pair_on_p256(tmp_path):
    private, public = sign.make_keys(tmp_path / "deep" / "keys")

    key = serialization.load_pem_private_key(private.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.public_key() in signing.load_keys(public.read_bytes()).by_hint.values()
    assert private.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("left", ["signing-private.pem", "signing-public.pem"])
def test_no_key_is_written_over(tmp_path, left):
    sign.make_keys(tmp_path)
    for path in tmp_path.iterdir():
        if path.name != left:
            path.unlink()
    before = (tmp_path / left).read_bytes()

    with pytest.raises(KeyFileError, match=f"{left} exists; it is not written over"):
        sign.make_keys(tmp_path)

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {left: before}


def test_signed_bundle_is_accepted_and_otherwise_unchanged(signed: Signed, bundles: dict[str, Path]):
    found = verify.read(signed.folder, signed.folder.name, signed.keys)

    assert found.raw_signature == signed.raw
    assert found.files == verify.read(bundles["penguins"]).files


def test_signing_again_replaces_the_signature(signed: Signed, copy: Path, monkeypatch: pytest.MonkeyPatch):
    (copy / "signature.json").write_text("old")
    monkeypatch.chdir(copy.parent)

    made = sign.sign(Path(copy.name), signed.private)

    assert made == Path(copy.name) / "signature.json"
    assert verify.read(copy, None, signed.keys).raw_signature == made.read_bytes()


def test_key_with_a_password_signs(copy: Path, tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "key.pem").write_bytes(private_pem(key, b"secret"))

    sign.sign(copy, tmp_path / "key.pem", "secret")

    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert verify.read(copy, None, signing.load_keys(public)).raw_signature is not None


BAD_KEYS = {
    "missing": None,
    "empty": b"",
    "text": b"a key",
    "with a password": private_pem(ec.generate_private_key(ec.SECP256R1()), b"secret"),
    "Ed25519": private_pem(ed25519.Ed25519PrivateKey.generate()),
    "P-384": private_pem(ec.generate_private_key(ec.SECP384R1())),
}


@pytest.mark.parametrize("raw", BAD_KEYS.values(), ids=BAD_KEYS)
def test_unusable_key_signs_nothing(copy: Path, tmp_path, raw):
    if raw is not None:
        (tmp_path / "key.pem").write_bytes(raw)

    with pytest.raises(KeyFileError, match=r"cannot be used|not ECDSA on P-256"):
        sign.sign(copy, tmp_path / "key.pem")

    assert not (copy / "signature.json").exists()


def test_damaged_bundle_is_not_signed(signed: Signed, copy: Path):
    (copy / "model.onnx").write_bytes(b"damaged")

    with pytest.raises(BundleError, match=r"model\.onnx has 7 bytes"):
        sign.sign(copy, signed.private)

    assert not (copy / "signature.json").exists()


def test_command_makes_keys_and_signs_the_current_bundle(bundles: dict[str, Path], tmp_path, capsys):
    keys = tmp_path / "keys"
    home = tmp_path / "penguins"
    folder = home / bundles["penguins"].name
    shutil.copytree(bundles["penguins"], folder)
    (home / "current").write_text(folder.name)

    assert sign.main(["keys", "--out", str(keys)]) == 0
    assert f"MODEL_PUBLIC_KEY={keys / 'signing-public.pem'}" in capsys.readouterr().out
    assert sign.main(["bundle", str(home), "--key", str(keys / "signing-private.pem")]) == 0
    assert capsys.readouterr().out == f"{folder / 'signature.json'}\n"
    assert sign.main(["bundle", str(home), "--key", str(keys / "signing-private.pem"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"bundle": str(folder), "signature": str(folder / "signature.json")}
    assert sign.main(["keys", "--out", str(tmp_path / "others"), "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"private", "public"}
    public = signing.load_keys((keys / "signing-public.pem").read_bytes())
    assert verify.read(folder, None, public).raw_signature is not None


def test_command_fails_with_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for arguments in (
        ["keys", "--out", str(tmp_path / "file")],
        ["bundle", str(tmp_path / "none"), "--key", "none.pem"],
        ["bundle", str(tmp_path), "--key", "none.pem"],
    ):
        assert sign.main(arguments) == 2
        found = capsys.readouterr()
        assert found.out == ""
        assert found.err.startswith("error: ")
        assert found.err.count("\n") == 1


def test_command_without_a_verb_is_wrong_usage(capsys):
    with pytest.raises(SystemExit) as caught:
        sign.main([])

    assert caught.value.code == 2
    assert "(python -m model.sign" in capsys.readouterr().err
