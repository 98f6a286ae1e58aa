"""Builds and runs the image through container.sh, speaks HTTP to it, and reads what lies in it."""

from __future__ import annotations

import hashlib
import json
import select
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from socket import create_connection, socket
from typing import IO, Any

from tests.integration.servers import DEADLINE_SECONDS, HOST, POLL_SECONDS, ROOT, Answer, exchange, reserve_port

SCRIPT = "tests/e2e/container.sh"
# no build, and no answer of an engine, takes longer
BUILD_SECONDS = 900


def call(*words: str, script: Path = ROOT / SCRIPT, check: bool = True, **environment: str) -> str:
    """Call container.sh and return what it printed on both channels.

    Raises:
        AssertionError: it failed, with all that it said.
    """
    done = subprocess.run(
        ["env", *(f"{name}={value}" for name, value in environment.items()), str(script), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    assert done.returncode == 0 or not check, f"{words}: {done.returncode}\n{done.stdout[-4000:]}"
    return done.stdout


@dataclass(frozen=True)
class File:
    """What is recorded of a file; times are not, as they differ from build to build.

    Attributes:
        kind: the tar's letter: 0 for a file, 2 for a link, 5 for a folder.
        sha256: of the content, or of the link's goal.
    """

    kind: str
    mode: int
    owner: tuple[int, int]
    sha256: str


@dataclass(frozen=True)
class Context:
    """A copy of what git would commit, to build from: what lies beside it on this machine cannot get in."""

    folder: Path

    @classmethod
    def copy(cls, folder: Path) -> Context:
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
        for name in filter(None, names):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
        return cls(folder)

    def build(self, image: str, *options: str, **environment: str) -> str:
        """Build; returns what the engine printed."""
        return call("build", *options, script=self.folder / SCRIPT, IMAGE=image, **environment)


@dataclass(frozen=True)
class Image:
    """A built image."""

    name: str

    def config(self) -> dict[str, Any]:
        """Environment, labels and command."""
        return dict(json.loads(call("engine", "image", "inspect", self.name))[0]["Config"])

    def files(self) -> dict[str, File]:
        """Return every file by its path without the leading slash."""
        return {name: file for name, file, _ in self._members()}

    def read(self, name: str) -> bytes:
        """Return one file's content; the export is read to its end, as not every engine stops when nobody listens."""
        return {path: payload for path, payload in self.contents() if path == name}[name]

    def contents(self) -> Iterator[tuple[str, bytes]]:
        """Yield path and content of every regular file."""
        return ((name, payload) for name, file, payload in self._members() if file.kind == "0")

    def _members(self) -> Iterator[tuple[str, File, bytes]]:
        """Export it and go through the tar."""
        command = [str(ROOT / SCRIPT), "export", self.name]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            yield from members(process.stdout)
        assert process.returncode == 0

    def layers(self, folder: Path) -> Iterator[tuple[str, bytes]]:
        """Yield path and content of every regular file in every layer, deleted later or not, and the configuration."""
        archive = folder / "image.tar"
        call("engine", "save", "--output", str(archive), self.name)
        with tarfile.open(archive) as whole:
            manifest = json.load(whole.extractfile("manifest.json"))[0]
            yield manifest["Config"], whole.extractfile(manifest["Config"]).read()
            for layer in manifest["Layers"]:
                for name, file, payload in members(whole.extractfile(layer)):
                    if file.kind == "0":
                        yield name, payload
        archive.unlink()


def members(stream: IO[bytes]) -> Iterator[tuple[str, File, bytes]]:
    """Yield path, record and content of what lies in a tar."""
    with tarfile.open(fileobj=stream, mode="r|*") as archive:
        for member in archive:
            payload = archive.extractfile(member).read() if member.isfile() else member.linkname.encode()
            record = File(
                member.type.decode(), member.mode, (member.uid, member.gid), hashlib.sha256(payload).hexdigest()
            )
            yield member.name.removeprefix("./").strip("/"), record, payload


@dataclass
class Container:
    """A running container."""

    name: str
    port: int
    reservation: socket

    @classmethod
    def start(
        cls, image: Image, name: str, settings: Mapping[str, str], command: str = "", model: Path | None = None
    ) -> Container:
        """Start it as Cloud Run would, hardened, and return at once.

        Args:
            image: which.
            name: of the container.
            settings: environment.
            command: in place of the image's own.
            model: a folder that lies where SageMaker puts it.
        """
        reservation = reserve_port()
        port = reservation.getsockname()[1]
        options = [word for key, value in settings.items() for word in ("--env", f"{key}={value}")]
        call("engine", "rm", "--force", name, check=False)
        if model is not None:
            options += ["--volume", f"{model}:/opt/ml/model:ro"]
        call("run", image.name, name, str(port), *options, COMMAND=command)
        return cls(name, port, reservation)

    def connect(self) -> HTTPConnection:
        """Return a keep-alive connection; the caller closes it."""
        return HTTPConnection(HOST, self.port, timeout=DEADLINE_SECONDS)

    def open_socket(self) -> socket:
        """Return a raw connection; the caller closes it."""
        return create_connection((HOST, self.port), timeout=DEADLINE_SECONDS)

    def get(self, path: str) -> Answer:
        with closing(self.connect()) as connection:
            return exchange(connection, "GET", path)

    def predict(self, body: bytes) -> Answer:
        return self.post("/predict", body, "application/json")

    def post(self, path: str, body: bytes, content_type: str) -> Answer:
        with closing(self.connect()) as connection:
            return exchange(connection, "POST", path, body, {"Content-Type": content_type})

    def wait_until_ready(self) -> Container:
        """Poll readiness."""
        self.wait_for("/health/ready", 200)
        return self

    def wait_for(self, path: str, status: int) -> Answer:
        """Poll a route until it answers with a status.

        Raises:
            AssertionError: the deadline has passed, with the log.
        """
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline:
            try:
                if (answer := self.get(path)).status == status:
                    return answer
            except (OSError, HTTPException):
                pass
            select.select([], [], [], POLL_SECONDS)
        raise AssertionError(self.log())

    def ends_within(self, seconds: float) -> bool:
        """Whether it ends within some time."""
        command = [str(ROOT / SCRIPT), "engine", "wait", self.name]
        try:
            subprocess.run(command, timeout=seconds, capture_output=True, check=True)
        except subprocess.TimeoutExpired:
            return False
        return True

    def run(self, *words: str, check: bool = True) -> str:
        """Run a command inside."""
        return call("engine", "exec", self.name, *words, check=check)

    def log(self) -> str:
        """Return what it wrote to both channels."""
        return call("engine", "logs", self.name)

    def terminate(self) -> None:
        """Send SIGTERM to process 1, and wait for nothing."""
        call("engine", "kill", "--signal", "TERM", self.name)

    def status(self) -> int:
        """Return its exit status."""
        return int(call("engine", "inspect", "--format", "{{.State.ExitCode}}", self.name))

    def remove(self) -> None:
        """End it, if it still runs, and remove it."""
        call("engine", "rm", "--force", self.name, check=False)
        self.reservation.close()
