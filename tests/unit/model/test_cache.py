"""A folder of bundles that is whole at every moment, and remembers what worked and what crashed."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from model import bundle, verify
from model import manifest as manifests
from model.cache import Cache
from model.errors import BundleError
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
        cache.begin(penguins.digest)
    finally:
        os.umask(former)

    folders = (tmp_path / "cache", tmp_path / "cache" / "bundles", tmp_path / "cache" / "running")
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


CRASH = "cache.begin(sys.argv[2]); os._exit(7)"
KILLED = "cache.begin(sys.argv[2]); os.kill(os.getpid(), signal.SIGKILL)"
ORDERLY = "cache.begin(sys.argv[2]); cache.end()"


def crash(root: Path, digest: str, times: int, code: str = CRASH) -> None:
    for _ in range(times):
        run(root, code, digest)


@pytest.mark.parametrize(("code", "status"), [(CRASH, 7), (KILLED, -signal.SIGKILL)], ids=["exit", "killed"])
def test_three_sudden_ends_within_a_minute_are_quarantine(tmp_path, code, status):
    now = [1_000.0]
    cache = Cache(tmp_path / "cache", lambda: now[0])
    for number in range(3):
        assert not cache.is_quarantined(A)
        assert run(tmp_path / "cache", code, A).returncode == status
        now[0] += 20 * (number > 0)
        cache.count_crashes()

    assert cache.is_quarantined(A)
    assert cache.is_quarantined(f"sha256:{A}")
    assert not cache.is_quarantined(B)
    assert names(tmp_path / "cache" / "running") == []


def test_three_workers_that_end_at_once_are_quarantine(tmp_path):
    cache = Cache(tmp_path / "cache", lambda: 1_000.0)
    crash(tmp_path / "cache", A, 3)

    cache.count_crashes()

    assert len(names(tmp_path / "cache" / "crashed")) == 3
    assert cache.is_quarantined(A)


def test_sudden_ends_far_apart_are_none(tmp_path):
    now = [1_000.0]
    cache = Cache(tmp_path / "cache", lambda: now[0])
    for _ in range(4):
        crash(tmp_path / "cache", A, 1)
        cache.count_crashes()
        now[0] += 31

    assert not cache.is_quarantined(A)


def test_sudden_ends_are_counted_for_each_bundle(tmp_path):
    cache = Cache(tmp_path / "cache", lambda: 1_000.0)
    for digest in (A, B):
        crash(tmp_path / "cache", digest, 2)

    cache.count_crashes()

    assert not cache.is_quarantined(A)
    assert not cache.is_quarantined(B)


def test_orderly_ends_and_running_processes_are_not_counted(tmp_path):
    cache = Cache(tmp_path / "cache", lambda: 1_000.0)
    crash(tmp_path / "cache", A, 4, ORDERLY)
    cache.begin(f"sha256:{A}")
    cache.begin(B)

    cache.count_crashes()

    assert names(tmp_path / "cache" / "crashed") == []
    # one process serves one bundle: the one it tried before did not end it
    (mark,) = names(tmp_path / "cache" / "running")
    assert mark.startswith(f"{os.getpid()}-")
    assert mark.endswith(B)
    cache.end()
    assert names(tmp_path / "cache" / "running") == []


def test_process_that_runs_elsewhere_is_not_counted(cache: Cache, tmp_path):
    code = "cache.begin(sys.argv[2]); print('begun', flush=True); sys.stdin.read()"
    start = "import sys\nfrom pathlib import Path\nfrom model.cache import Cache\ncache = Cache(Path(sys.argv[1]))\n"
    with subprocess.Popen(
        [sys.executable, "-c", start + code, str(tmp_path / "cache"), A],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as other:  # fmt: skip
        assert other.stdout.readline() == b"begun\n"
        (mark,) = (tmp_path / "cache" / "running").iterdir()
        # in another container the process has another id
        mark.rename(mark.with_name(f"999999999-{A}"))
        cache.count_crashes()
        assert names(tmp_path / "cache" / "running") == [f"999999999-{A}"]
        other.kill()
        other.wait()

    cache.count_crashes()

    assert names(tmp_path / "cache" / "running") == []
    assert len(names(tmp_path / "cache" / "crashed")) == 1


def test_crash_is_seen_by_a_process_with_the_same_id(cache: Cache, tmp_path):
    home = tmp_path / "cache" / "running"
    home.mkdir(parents=True)
    (home / f"{os.getpid()}-{A}").touch()

    cache.count_crashes()
    cache.begin(A)
    cache.count_crashes()

    assert len(names(tmp_path / "cache" / "crashed")) == 1
    assert len(names(home)) == 1
    cache.end()


def test_crashes_that_no_longer_count_leave_no_file(tmp_path):
    now = [1_000.0]
    cache = Cache(tmp_path / "cache", lambda: now[0])
    for _ in range(5):
        crash(tmp_path / "cache", A, 1)
        cache.count_crashes()
        now[0] += 61

    cache.count_crashes()

    assert names(tmp_path / "cache" / "crashed") == []
    assert not cache.is_quarantined(A)


def test_end_leaves_what_is_no_mark(cache: Cache, tmp_path):
    home = tmp_path / "cache" / "running"
    home.mkdir(parents=True)
    others = ["notes", f"x-{A}", f"{os.getpid()}-short"]
    for name in others:
        (home / name).touch()

    cache.begin(A)
    cache.end()
    cache.count_crashes()

    assert names(home) == sorted(others)


def test_quarantine_leaves_the_bundle_before_as_last_known_good(penguins: VerifiedBundle, tmp_path):
    cache = Cache(tmp_path / "cache", lambda: 1_000.0)
    first, second = (digest_like(penguins, serial) for serial in (1, 2))
    for one in (first, second):
        cache.keep(one)
        cache.remember(one.digest)
    crash(tmp_path / "cache", second.digest, 3)

    cache.count_crashes()

    assert cache.last_known_good == first.digest


HOLD = """
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
    unwritable.begin(A)
    unwritable.end()
    unwritable.count_crashes()
    unwritable.drop(A)
    with unwritable.lock(A, Deadline(0)), unwritable.lock(A, Deadline(0)):
        assert not unwritable.is_quarantined(A)
    assert unwritable.last_known_good is None
    assert unwritable.find(A) is None


def test_crashes_that_cannot_be_noted_are_passed_over(cache: Cache, tmp_path):
    crash(tmp_path / "cache", A, 1)
    (tmp_path / "cache" / "crashed").write_text("in the way")

    cache.count_crashes()

    assert len(names(tmp_path / "cache" / "running")) == 1


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
    cache.count_crashes()
    assert {".writing-folder", bundle.bare(penguins.digest)} == set(names(home))
    now[0] += 1_000_000
    cache.keep(penguins)
    cache.remember(penguins.digest)
    cache.count_crashes()

    assert names(home) == [bundle.bare(penguins.digest)]
    assert ".writing-file" not in names(tmp_path / "cache")
