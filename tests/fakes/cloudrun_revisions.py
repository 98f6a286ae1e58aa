"""A revision of the fake Cloud Run: a real process started from the image's command, probed, proxied to and killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.fakes.cloudrun_wire import HOP_BY_HOP, Reply, Request, read_body, read_head
from tests.integration.servers import reserve_port

ROOT = Path(__file__).resolve().parents[2]
GUNICORN = (sys.executable, "-m", "gunicorn", "-c", "service/gunicorn_conf.py")
PROBE_SECONDS = 0.05
UNAVAILABLE = Reply(503, b"Service Unavailable", {"Content-Type": "text/plain"})


@dataclass(frozen=True)
class Image:
    """What a container image is here: a command, its working directory, and the environment it brings."""

    command: tuple[str, ...] = GUNICORN
    folder: Path = ROOT
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Revision:
    """One revision.

    Attributes:
        template: what it was made from; never changes.
        state: starting until the startup probe succeeds or gives up.
        was_ready: whether the probe ever succeeded; Cloud Run does not take that back when a process dies later.
    """

    name: str
    service: str
    template: dict[str, Any]
    state: Literal["starting", "ready", "failed"] = "starting"
    created: float = field(default_factory=time.time)
    process: subprocess.Popen[bytes] | None = None
    port: int = 0
    metrics_port: int = 0
    _idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)

    @property
    def was_ready(self) -> bool:
        """Whether traffic may be sent to it."""
        return self.state == "ready"

    @property
    def container(self) -> dict[str, Any]:
        """The container that has the port: the first one, if none names it."""
        containers: list[dict[str, Any]] = self.template["spec"]["containers"]
        return next((one for one in containers if one.get("ports")), containers[0])

    @property
    def image(self) -> str:
        """The image's reference as it was given."""
        return str(self.container["image"])

    def environment(self) -> dict[str, str]:
        """What Cloud Run sets, and what the service sets."""
        given = {one["name"]: one.get("value", "") for one in self.container.get("env", [])}
        return {**given, "K_SERVICE": self.service, "K_REVISION": self.name, "K_CONFIGURATION": self.service}

    def start(self, image: Image, settings: Mapping[str, str], folder: Path) -> None:
        """Start its one process; what it says goes into files in `folder`."""
        with reserve_port() as reservation, reserve_port() as other:
            self.port, self.metrics_port = reservation.getsockname()[1], other.getsockname()[1]
        # an instance's disk is its own, and empty
        disk = folder / f"{self.name}.disk"
        disk.mkdir()
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment = {
            **inherited,
            **image.environment,
            **settings,
            **self.environment(),
            "PORT": str(self.port),
            "TMPDIR": str(disk),
        }
        if "ROOKERY_OPS_PORT" in environment:
            # an instance's ports are its own there; here all instances share one machine
            environment["ROOKERY_OPS_PORT"] = str(self.metrics_port)
        else:
            self.metrics_port = self.port
        with (folder / f"{self.name}.out").open("wb") as out, (folder / f"{self.name}.err").open("wb") as err:
            self.process = subprocess.Popen(
                image.command,
                cwd=image.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    async def probe(self, patience_seconds: float) -> bool:
        """Try the startup probe until it succeeds, its tries are used up, or the process ends."""
        given = self.container.get("startupProbe", {})
        path = given.get("httpGet", {}).get("path", "/health/ready")
        seconds = min(patience_seconds, given.get("failureThreshold", 3) * given.get("periodSeconds", 10))
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process and self.process.poll() is None:
            asked = Request("GET", "probe", path, {}, path, {}, b"")
            with contextlib.suppress(ConnectionError):
                if (await self.ask(asked)).status == 200:
                    return True
            await asyncio.sleep(PROBE_SECONDS)
        return False

    async def ask(self, request: Request) -> Reply:
        """Send a request to the process over a kept connection, or a new one where that was closed meanwhile.

        Raises:
            ConnectionError: the process does not answer.
        """
        while self._idle:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                return await self._exchange(self._idle.pop(), request)
        try:
            return await self._exchange(await asyncio.open_connection("127.0.0.1", self.port), request)
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError(f"{self.name} cut an answer off") from error

    async def scrape(self) -> Reply:
        """Ask for /metrics as the sidecar does, from inside of the instance.

        Raises:
            ConnectionError: the process does not answer.
        """
        reader, writer = await asyncio.open_connection("127.0.0.1", self.metrics_port)
        try:
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: metrics\r\nConnection: close\r\n\r\n")
            head = await read_head(reader)
            if head is None:
                raise ConnectionResetError(f"{self.name} closed the connection")
            return Reply(int(head[0].split(" ")[1]), await read_body(reader, head[1]), head[1])
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError(f"{self.name} cut an answer off") from error
        finally:
            writer.close()

    async def _exchange(self, connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], request: Request) -> Reply:
        reader, writer = connection
        try:
            lines = [f"{request.method} {request.target} HTTP/1.1"]
            kept = {name: value for name, value in request.headers.items() if name not in HOP_BY_HOP}
            kept |= {"host": request.host, "content-length": str(len(request.body))}
            lines += [f"{name}: {value}" for name, value in kept.items()]
            writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + request.body)
            head = await read_head(reader)
            if head is None:
                raise ConnectionResetError(f"{self.name} closed the connection")
            start, headers = head
            body = b"" if request.method == "HEAD" else await read_body(reader, headers)
        except BaseException:
            writer.close()
            raise
        if headers.get("connection", "").lower() == "close":
            writer.close()
        else:
            self._idle.append(connection)
        return Reply(int(start.split(" ")[1]), body, headers)

    def kill(self) -> None:
        """End its process and the workers at once, by their group's id."""
        if self.process and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def stop(self, seconds: float = 12) -> None:
        """End it as Cloud Run does."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
        for _, writer in self._idle:
            writer.close()
        self._idle.clear()
