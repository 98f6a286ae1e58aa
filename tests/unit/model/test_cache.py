"""A folder of bundles that is whole at every moment, and remembers what worked."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from model import bundle, verify
from model import manifest as manifests
from model.cache import Cache
from model.errors import BundleError
from model.quarantine import CRASHES
from model.store import Deadline
from model.verify import VerifiedBundle
from tests.conftest import ROOT
from tests.unit.model.conftest import Signed

A, B, C = "a" * 64, "b" * 64, "c" * 64


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.exists() else []


def digest_like(found: VerifiedBundle, serial: int) -> VerifiedBundle:
    """The same model under another digest."""
    raw = manifests.encode(replace(found.manifest, serial=serial))
    return VerifiedBundle(manifests.decode(raw), manifests.digest(raw), found.files, raw)


def run(root: Path, code: str, *more: str, **options) -> subprocess.CompletedProcess[str]:
    """Run code in another process that has `cache` and `more` at hand."""
    start = "import os, signal, sys\nfrom pathlib import Path\nfrom model.cache import Cache\n"
    start += "cache = Cache(Path(sys.argv[1]))\n"
    command = [sys.executable, "-c", start + code, str(root), *more]
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=60, check=False, **options)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.mark.parametrize("prefix", ["", "sha256:"], ids=["bare", "with prefix"])
def test_kept_bundle_is_found_and_verifies(cache: Cache, penguins: VerifiedBundle, prefix):
    assert cache.find(penguins.digest) is None

    cache.keep(penguins)

    folder = cache.find(prefix + bundle.bare(penguins.digest))
    assert folder is not None
    assert verify.read(folder, penguins.digest) == penguins
    assert names(folder) == ["manifest.json", "model.json", "model.onnx"]


def test_signature_is_kept_too(cache: Cache, signed: Signed):
    cache.keep(verify.read(signed.folder, None, signed.keys))

    assert verify.read(cache.find(signed.folder.name), None, signed.keys).raw_signature == signed.raw


def test_only_this_user_may_look_into_the_cache(cache: Cache, penguins: VerifiedBundle, tmp_path):
    former = os.umask(0)
    try:
        cache.keep(penguins)
        cache.quarantine.note_crash(penguins.digest)
    finally:
        os.umask(former)

    folders = (tmp_path / "cache", tmp_path / "cache" / "bundles", tmp_path / "cache" / "crashed")
    assert [oct(folder.stat().st_mode & 0o777) for folder in folders] == ["0o700"] * 3


def test_cache_of_somebody_else_is_refused(cache: Cache, penguins: VerifiedBundle, tmp_path):
    if os.getuid() != 0:
        pytest.skip("only root can give a folder away")
    (tmp_path / "cache").mkdir()
    os.chown(tmp_path / "cache", 12345, -1)

    with pytest.raises(BundleError, match="belongs to user 12345; set MODEL_CACHE_DIR") as caught:
        cache.keep(penguins)

    assert caught.value.code == "cache_not_ours"
    assert names(tmp_path / "cache" / "bundles") == []


def test_keeping_twice_keeps_the_first(cache: Cache, penguins: VerifiedBundle, tmp_path):
    cache.keep(penguins)
    inode = cache.find(penguins.digest).stat().st_ino

    cache.keep(penguins)

    assert cache.find(penguins.digest).stat().st_ino == inode
    assert names(tmp_path / "cache" / "bundles") == [bundle.bare(penguins.digest)]


def test_half_dropped_bundle_is_written_again(cache: Cache, penguins: VerifiedBundle):
    cache.keep(penguins)
    (cache.find(penguins.digest) / "manifest.json").unlink()
    assert cache.find(penguins.digest) is None

    cache.keep(penguins)

    assert verify.read(cache.find(penguins.digest)) == penguins


def test_dropped_bundle_is_gone_whatever_lies_in_it(cache: Cache, penguins: VerifiedBundle, tmp_path):
    cache.keep(penguins)
    (cache.find(penguins.digest) / "sub").mkdir()
    (cache.find(penguins.digest) / "sub" / "file").write_text("")

    cache.drop(penguins.digest)
    cache.drop(penguins.digest)

    assert names(tmp_path / "cache" / "bundles") == []


def test_last_known_good_is_the_one_remembered(cache: Cache, penguins: VerifiedBundle, tmp_path):
    assert cache.last_known_good is None
    cache.keep(penguins)
    assert cache.last_known_good is None

    cache.remember(penguins.digest)

    assert cache.last_known_good == penguins.digest
    assert (tmp_path / "cache" / "last-known-good").read_text() == bundle.bare(penguins.digest) + "\n"


def test_bundle_no_longer_on_disk_is_not_last_known_good(cache: Cache, penguins: VerifiedBundle):
    cache.keep(penguins)
    cache.remember(penguins.digest)
    cache.drop(penguins.digest)

    assert cache.last_known_good is None


@pytest.mark.parametrize("content", [b"", b"\n", b"../x", b"\xff", A[1:].encode(), A.encode()], ids=repr)
def test_damaged_note_names_no_bundle(cache: Cache, tmp_path, content):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "last-known-good").write_bytes(content)

    assert cache.last_known_good is None


def test_only_the_latest_two_bundles_stay(cache: Cache, penguins: VerifiedBundle, tmp_path):
    found = [digest_like(penguins, serial) for serial in range(1, 6)]
    for one in found:
        cache.keep(one)
        cache.remember(one.digest)
        cache.remember(one.digest)  # a second worker, or a restart

    assert names(tmp_path / "cache" / "bundles") == sorted(bundle.bare(one.digest) for one in found[-2:])
    assert cache.last_known_good == found[-1].digest


def test_bundles_never_proven_go_when_another_one_is(cache: Cache, penguins: VerifiedBundle, tmp_path):
    first, unproven, second = (digest_like(penguins, serial) for serial in (1, 2, 3))
    cache.keep(first)
    cache.remember(first.digest)
    cache.keep(unproven)
    cache.keep(second)
    (tmp_path / "cache" / "bundles" / "notes").mkdir()

    assert cache.remember(second.digest) == [unproven.digest]

    kept = {"notes", bundle.bare(first.digest), bundle.bare(second.digest)}
    assert names(tmp_path / "cache" / "bundles") == sorted(kept)


def test_going_back_swaps_the_two(cache: Cache, penguins: VerifiedBundle, tmp_path):
    first, second = (digest_like(penguins, serial) for serial in (1, 2))
    for one in (first, second, first):
        cache.keep(one)
        cache.remember(one.digest)

    assert cache.last_known_good == first.digest
    assert len(names(tmp_path / "cache" / "bundles")) == 2


def test_quarantine_leaves_the_bundle_before_as_last_known_good(penguins: VerifiedBundle, tmp_path):
    cache = Cache(tmp_path / "cache", lambda: 1_000.0)
    first, second = (digest_like(penguins, serial) for serial in (1, 2))
    for one in (first, second):
        cache.keep(one)
        cache.remember(one.digest)
    for _ in range(CRASHES):
        cache.quarantine.note_crash(second.digest)

    assert cache.last_known_good == first.digest


HOLD = """
from model.quarantine import CRASHES
from model.store import Deadline
with cache.lock(sys.argv[2], Deadline(60)):
    print("mine", flush=True)
    sys.stdin.readline()
    Path(sys.argv[1], "made").write_text("by the first")
"""


def holder(root: Path) -> subprocess.Popen[str]:
    start = (
        "import os, sys\nfrom pathlib import Path\nfrom model.cache import Cache\ncache = Cache(Path(sys.argv[1]))\n"
    )
    found = subprocess.Popen(
        [sys.executable, "-c", start + HOLD, str(root), A],
        cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert found.stdout.readline() == "mine\n"
    return found


def test_second_process_waits_and_finds_what_the_first_made(cache: Cache, tmp_path):
    with holder(tmp_path / "cache") as first:
        with pytest.raises(BundleError) as caught, cache.lock(A, Deadline(0.1)):
            raise AssertionError("two have the lock")
        with cache.lock(B, Deadline(10)):
            assert not (tmp_path / "cache" / "made").exists()
        first.stdin.write("go\n")
        first.stdin.flush()
        with cache.lock(f"sha256:{A}", Deadline(30)):
            assert (tmp_path / "cache" / "made").read_text() == "by the first"

    assert caught.value.code == "fetch_timeout"
    assert first.returncode == 0


def test_lock_of_a_killed_process_is_free(cache: Cache, tmp_path):
    with holder(tmp_path / "cache") as first:
        first.kill()
        with cache.lock(A, Deadline(30)):
            assert not (tmp_path / "cache" / "made").exists()


def test_error_under_the_lock_frees_it(cache: Cache):
    with pytest.raises(BundleError, match="x"), cache.lock(A, Deadline(5)):
        raise BundleError("x", "x")

    before = len(os.listdir("/proc/self/fd"))
    with cache.lock(A, Deadline(0)):
        assert len(os.listdir("/proc/self/fd")) == before + 1
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture(params=["a file in its place", "a file system without folders"])
def unwritable(request, tmp_path) -> Cache:
    """A cache that cannot be written to, not even by root."""
    if request.param == "a file in its place":
        (tmp_path / "cache").write_text("in the way")
        return Cache(tmp_path / "cache")
    return Cache(Path("/proc/self/cache"))


def test_disk_that_cannot_be_written_to_is_an_os_error(unwritable: Cache, penguins: VerifiedBundle, tmp_path):
    with pytest.raises(OSError, match=r"File exists|Not a directory|No such file"):
        unwritable.keep(penguins)
    with pytest.raises(OSError, match=r"Not a directory|No such file"):
        unwritable.remember(penguins.digest)

    assert names(tmp_path) in (["cache"], [])


def test_disk_that_cannot_be_written_to_holds_nobody_up(unwritable: Cache):
    unwritable.drop(A)
    unwritable.quarantine.lift(A)
    with unwritable.lock(A, Deadline(0)), unwritable.lock(A, Deadline(0)):
        assert not unwritable.quarantine.holds(A)
    assert unwritable.last_known_good is None
    assert unwritable.find(A) is None


FULL = """
from model import verify
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
found = verify.read(Path(sys.argv[2]))
try:
    cache.keep(found)
except OSError as error:
    print(error.strerror)
"""


def test_full_disk_is_an_os_error_and_leaves_nothing_half_written(bundles: dict[str, Path], tmp_path):
    sizes = [(bundles["penguins"] / name).stat().st_size for name in ("model.json", "model.onnx", "manifest.json")]
    for limit in (0, 100, min(sizes) + 1, max(sizes) - 1):
        done = run(
            tmp_path / "cache", FULL, str(bundles["penguins"]),
            preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )  # fmt: skip
        assert (done.stdout, done.stderr) == ("File too large\n", "")
        assert names(tmp_path / "cache" / "bundles") == []


REMEMBER = """
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    cache.remember(sys.argv[2])
except OSError as error:
    print(error.strerror)
"""


def test_full_disk_keeps_the_former_last_known_good(cache: Cache, penguins: VerifiedBundle, tmp_path):
    first, second = (digest_like(penguins, serial) for serial in (1, 2))
    cache.keep(first)
    cache.remember(first.digest)
    cache.keep(second)
    before = names(tmp_path / "cache")

    done = run(
        tmp_path / "cache", REMEMBER, second.digest,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10)),
    )  # fmt: skip

    assert (done.stdout, done.stderr) == ("File too large\n", "")
    assert cache.last_known_good == first.digest
    assert names(tmp_path / "cache") == before


def test_leftovers_of_killed_processes_go_once_they_are_old(penguins: VerifiedBundle, tmp_path):
    home = tmp_path / "cache" / "bundles"
    (home / ".writing-folder").mkdir(parents=True)
    (home / ".writing-folder" / "model.json").write_text("half")
    (tmp_path / "cache" / ".writing-file").write_text("half")
    now = [home.stat().st_mtime]
    cache = Cache(tmp_path / "cache", lambda: now[0])

    cache.keep(penguins)
    cache.remember(penguins.digest)
    assert {".writing-folder", bundle.bare(penguins.digest)} == set(names(home))
    now[0] += 1_000_000
    cache.keep(penguins)
    cache.remember(penguins.digest)

    assert names(home) == [bundle.bare(penguins.digest)]
    assert ".writing-file" not in names(tmp_path / "cache")
