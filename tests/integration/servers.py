"""Starts the real Gunicorn with our configuration, speaks HTTP to it, and stops it by its process id."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
HOST = "127.0.0.1"

# hang guards, far above anything seen: no test says anything about time
DEADLINE_SECONDS = 60.0
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Answer:
    """One whole HTTP answer; header names in lower case, headers that stand twice joined by a comma."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, which must be JSON without NaN and Infinity."""
        return json.loads(self.body, parse_constant=_refuse_constant)

    @property
    def content_type(self) -> str | None:
        return self.headers.get("content-type")

    @property
    def codes(self) -> list[tuple[str, str]]:
        """Pointer and code of every error of a refusal."""
        return [(error["pointer"], error["code"]) for error in self.json().get("errors", [])]


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def exchange(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send one request over a connection that stays open, and read the whole answer.

    Nothing is sent beyond Host, what is given, and the length of a body.
    """
    connection.putrequest(method, path, skip_accept_encoding=True)
    for name, value in (headers or {}).items():
        connection.putheader(name, value)
    if body is not None:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    return read_answer(connection.getresponse())


def read_answer(response: http.client.HTTPResponse) -> Answer:
    """Read a response to its end."""
    headers: dict[str, str] = {}
    for name, value in response.getheaders():
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return Answer(response.status, headers, response.read())


def receive(sock: socket.socket) -> Answer:
    """Read one answer from a raw connection."""
    response = http.client.HTTPResponse(sock)
    try:
        response.begin()
        return read_answer(response)
    finally:
        response.close()


@dataclass
class Server:
    """A running Gunicorn.

    Attributes:
        process: the master.
        port: where it listens on the loopback address.
        folder: holds what it wrote: `stdout` and `stderr`.
        reservation: keeps the port ours without listening on it (Linux lets both sockets bind with SO_REUSEADDR).
    """

    process: subprocess.Popen[bytes]
    port: int
    folder: Path
    reservation: socket.socket

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stdout_lines(self) -> list[str]:
        """What it logged: one JSON object a line."""
        return (self.folder / "stdout").read_text().splitlines()

    @property
    def stderr_lines(self) -> list[str]:
        """What Gunicorn's master and workers said."""
        return (self.folder / "stderr").read_text().splitlines()

    def workers(self) -> list[int]:
        """Process ids of the workers, as the kernel lists the master's children."""
        return sorted(map(int, Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()))

    def connect(self) -> http.client.HTTPConnection:
        """Return a keep-alive connection; the caller closes it."""
        return http.client.HTTPConnection(HOST, self.port, timeout=DEADLINE_SECONDS)

    def open_socket(self) -> socket.socket:
        """Return a raw connection; the caller closes it."""
        return socket.create_connection((HOST, self.port), timeout=DEADLINE_SECONDS)

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request over a connection of its own."""
        with closing(self.connect()) as connection:
            return exchange(connection, method, path, body, headers)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.request("GET", path, None, headers)

    def predict(self, value: Any, query: str = "", headers: Mapping[str, str] | None = None) -> Answer:
        """Post a value as JSON, or bytes as they are, to /predict."""
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        sent = {"Content-Type": "application/json"} if headers is None else headers
        return self.request("POST", f"/predict{query}", body, sent)

    def wait_until(self, path: str, status: int, between: Callable[[], object] = lambda: None) -> Answer:
        """Poll a route until it answers with a status; `between` is called before each try.

        Raises:
            AssertionError: the process ended, or the deadline has passed.
        """
        deadline = time.monotonic() + DEADLINE_SECONDS
        seen: object = None
        while time.monotonic() < deadline:
            between()
            try:
                answer = self.get(path)
                if answer.status == status:
                    return answer
                seen = answer.status
            except (OSError, http.client.HTTPException) as error:
                seen = error
            if self.has_ended(POLL_SECONDS):
                raise AssertionError(f"ended with {self.process.returncode}: {self.stderr_lines}")
        raise AssertionError(f"{path} never answered {status}, but {seen}: {self.stderr_lines}")

    def wait_for_workers(self, is_wanted: Callable[[list[int]], bool]) -> list[int]:
        """Poll the process ids of the workers until they are as wanted.

        Raises:
            AssertionError: the deadline has passed.
        """
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not is_wanted(found := self.workers()):
            if time.monotonic() > deadline or self.has_ended(POLL_SECONDS):
                raise AssertionError(f"workers are {found}: {self.stderr_lines}")
        return found

    def has_ended(self, within_seconds: float) -> bool:
        """Whether the master ends within some time."""
        try:
            self.process.wait(within_seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def send_signal(self, number: signal.Signals) -> None:
        """Signal the master, unless it is gone."""
        if self.process.poll() is None:
            self.process.send_signal(number)

    def stop(self) -> int:
        """End it as Cloud Run does, and return its exit status; killed by its id if it hangs."""
        self.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(DEADLINE_SECONDS)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.reservation.close()


def reserve_port() -> socket.socket:
    """Let the system choose a port and keep it."""
    reservation = socket.socket()
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reservation.bind((HOST, 0))
    return reservation


def command(*arguments: str) -> list[str]:
    """Return the command line of the server."""
    return [sys.executable, "-m", "gunicorn", "-c", "service/gunicorn_conf.py", *arguments]


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return an environment that holds the settings and nothing else of ours."""
    return {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | dict(settings)


def start(settings: Mapping[str, str], folder: Path, *, root: Path = ROOT, arguments: tuple[str, ...] = ()) -> Server:
    """Start Gunicorn on a free port and return at once.

    Args:
        settings: environment; `PORT` is added.
        folder: where its output goes.
        root: the working directory, which holds `service/` and `model/`.
        arguments: more words on the command line.
    """
    reservation = reserve_port()
    port = reservation.getsockname()[1]
    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
        process = subprocess.Popen(
            command(*arguments),
            cwd=root,
            env=environment({**settings, "PORT": str(port)}),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
    return Server(process, port, folder, reservation)
