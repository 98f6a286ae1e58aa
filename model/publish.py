"""Puts bundles into a bucket and looks at those that are there: `python -m model.publish upload|ls|show|verify`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec
from tqdm import tqdm

from model import manifest as manifests
from model import predictor, signing, verify
from model.bundle import MANIFEST, bare, resolve
from model.command_line import Parser
from model.errors import BundleError, KeyFileError, ModelError
from model.manifest import MAX_MANIFEST_BYTES, Manifest
from model.signing import SIGNATURE, PublicKeys
from model.store import DIGEST, Address, Bucket, Deadline, in_parallel, parse
from model.verify import Remote

UPLOAD_SECONDS = 600.0

HELP_END = """\
exit status: 0 done; 1 a bundle is not what it should be, or the bucket does not answer; 2 wrong usage or key

examples:
  python -m model.publish upload bundles/penguins gs://my-models/penguins
  python -m model.publish ls gs://my-models/penguins --json
  python -m model.publish verify gs://my-models/penguins/<digest>/ --key keys/signing-public.pem
"""


def upload(folder: Path, to: Address, quiet: bool, client: object = None) -> tuple[Address, str]:
    """Publish a bundle under its digest, and read it back.

    The manifest goes last: a bundle that was uploaded in part has none, and is not there for anybody.

    Args:
        folder: a bundle that verifies; its signature goes with it.
        to: the folder of all bundles.
        quiet: no progress bar.
        client: a google.cloud.storage client; None for the default one.

    Returns:
        The bundle's address and digest.

    Raises:
        BundleError: the bundle does not verify, another object has one of the names, or the store refuses.
    """
    bundle = verify.read(folder)
    files = dict(bundle.files)
    signature = folder / SIGNATURE
    if signature.is_file():
        files[SIGNATURE] = signature.read_bytes()
    address = to.child(bare(bundle.digest))
    bucket, deadline = Bucket(address, client), Deadline(UPLOAD_SECONDS)
    total = sum(map(len, files.values())) + len(bundle.raw_manifest)
    with tqdm(total=total, unit="B", unit_scale=True, desc="upload", disable=quiet) as bar:

        def send(name: str, payload: bytes) -> None:
            bucket.create(name, payload)
            bar.update(len(payload))

        in_parallel({name: partial(send, name, payload) for name, payload in files.items()}, deadline)
        send(MANIFEST, bundle.raw_manifest)
    verify.read(Remote(bucket, deadline), bundle.digest)
    return address, bundle.digest


def listing(at: Address, client: object = None) -> list[tuple[str, Manifest | BundleError]]:
    """Return the bundles below an address, oldest serial first, each with its manifest or why that cannot be read."""
    bucket = Bucket(at, client)
    names = [name for name in bucket.folders() if DIGEST.fullmatch(name)]
    jobs = {name: partial(_manifest_or_error, bucket.child(name), name) for name in names}
    found = in_parallel(jobs, Deadline(60))
    return sorted(found.items(), key=lambda item: _order(item[1]))


def _manifest_or_error(bucket: Bucket, digest: str) -> Manifest | BundleError:
    """Return the manifest of one bundle."""
    try:
        check: Callable[[bytes], None] = partial(verify.check_digest, expected_digest=digest)
        return manifests.decode(bucket.read(MANIFEST, MAX_MANIFEST_BYTES, Deadline(30), check))
    except BundleError as error:
        return error


def _order(found: Manifest | BundleError) -> tuple[int, str]:
    """Return what a listing is sorted by."""
    return (found.serial, found.created) if isinstance(found, Manifest) else (-1, "")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, 1 if a bundle is not what it should be, 2 for wrong usage."""
    given = _parser().parse_args(arguments)
    try:
        verbs = {"upload": _upload, "ls": _ls, "show": _show, "verify": _verify}
        return verbs[given.verb](given)
    except KeyFileError as error:
        print(f"error: {given.key} {error}", file=sys.stderr)
        return 2
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = Parser(
        prog="python -m model.publish",
        description="Publish bundles to Cloud Storage and look at those that are there.",
        epilog=HELP_END,
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("upload", help="upload a bundle under its digest; prints the address to pin")
    one.add_argument("bundle", type=Path, help="bundle folder, or a folder with a file `current`")
    one.add_argument("to", help="gs://bucket/prefix, the folder of all bundles")
    one.add_argument("--json", action="store_true", help="print what to pin as JSON")
    several = verbs.add_parser("ls", help="list the bundles below an address with quality and date")
    several.add_argument("uri", help="gs://bucket/prefix")
    several.add_argument("--json", action="store_true", help="one JSON object a line")
    show = verbs.add_parser("show", help="print a bundle's manifest without its golden rows, as JSON")
    show.add_argument("uri", help="gs://bucket/prefix/<digest>/")
    check = verbs.add_parser("verify", help="download, verify, load and prove a bundle, as the service does")
    check.add_argument("uri", help="gs://bucket/prefix/<digest>/")
    check.add_argument("--key", type=Path, help="public key the bundle must be signed with")
    check.add_argument("--json", action="store_true", help="print what was proven as JSON")
    return parser


def _upload(given: argparse.Namespace) -> int:
    """Upload and print what to pin."""
    folder = resolve(given.bundle)
    address, digest = upload(folder, parse(given.to), quiet=not sys.stderr.isatty())
    contract = manifests.contract(verify.read(folder, digest).manifest)
    pins = {"MODEL_URI": str(address), "MODEL_DIGEST": digest, "ROOKERY_MODEL_CONTRACT": contract}
    print(json.dumps(pins) if given.json else "\n".join(f"{name}={value}" for name, value in pins.items()))
    return 0


def _ls(given: argparse.Namespace) -> int:
    """Print one line per bundle."""
    found = listing(parse(given.uri))
    if given.json:
        for digest, manifest in found:
            print(json.dumps({"digest": f"sha256:{digest}", **_summary(manifest)}))
        return 0
    if found:
        print(f"{'digest':<16}{'name':<16}{'version':<10}{'serial':>6}  {'created':<22}{'accuracy':>9}{'log loss':>10}")
    for digest, manifest in found:
        if isinstance(manifest, BundleError):
            print(f"{digest[:12]:<16}{manifest}")
            continue
        model = manifest.quality.model
        print(
            f"{digest[:12]:<16}{manifest.name:<16}{manifest.version:<10}{manifest.serial:>6}  {manifest.created:<22}"
            f"{model.accuracy.value:>9.4f}{model.log_loss.value:>10.4f}"
        )
    return 0


def _summary(found: Manifest | BundleError) -> dict[str, object]:
    """Return a bundle's line for machines."""
    if isinstance(found, BundleError):
        return {"error": found.code}
    return {
        "name": found.name,
        "version": found.version,
        "serial": found.serial,
        "created": found.created,
        "accuracy": found.quality.model.accuracy.value,
        "log_loss": found.quality.model.log_loss.value,
    }


def _show(given: argparse.Namespace) -> int:
    """Print the manifest."""
    bucket = Bucket(parse(given.uri))
    raw = Remote(bucket, Deadline(30)).manifest(bucket.address.digest)
    whole = msgspec.to_builtins(manifests.decode(raw))
    whole["golden"] = {"count": len(whole["golden"]["rows"]), "leaf_share": whole["golden"]["leaf_share"]}
    print(json.dumps(whole, indent=2, ensure_ascii=False))
    return 0


def _verify(given: argparse.Namespace) -> int:
    """Verify end to end."""
    keys: PublicKeys | None = None
    if given.key is not None:
        try:
            keys = signing.load_keys(given.key.read_bytes())
        except OSError as error:
            raise KeyFileError(f"cannot be read: {error.strerror}") from error
    bucket = Bucket(parse(given.uri))
    bundle = verify.read(Remote(bucket, Deadline(60)), bucket.address.digest, keys)
    predictor.load(bundle)
    manifest, rows = bundle.manifest, len(bundle.manifest.golden.rows)
    if given.json:
        facts = {"digest": bundle.digest, "name": manifest.name, "version": manifest.version}
        print(json.dumps({**facts, "is_signed": keys is not None, "golden_rows": rows}))
        return 0
    signed = "signed" if keys is not None else "signature not asked for"
    print(f"{bundle.digest} {manifest.name} {manifest.version}: good, {signed}, {rows} golden rows equal")
    return 0


if __name__ == "__main__":
    sys.exit(main())
