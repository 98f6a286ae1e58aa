"""A fake Cloud Run on loopback: the real gcloud and our client command it, real Gunicorn processes answer.

    with CloudRun(images={"registry.test/rookery": Image()}) as cloud:
        subprocess.run(["gcloud", "run", "deploy", "x", "--image", "registry.test/rookery"], env=cloud.environment(tmp))
        requests.post(f"{cloud.url('x')}/predict", json={...}, proxies={"http": cloud.proxy})

It is an HTTP proxy: the control plane is `run.fake.test` (gcloud puts the region before it), services and tags are
hosts under `a.run.test`.  Whatever else is asked for, a CONNECT to a real host above all, is refused and counted in
`refused`, so that a test can prove that nothing left the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.fakes.cloudrun_api import Api, Fault
from tests.fakes.cloudrun_metrics import Metrics
from tests.fakes.cloudrun_monitoring import HOST as MONITORING_HOST
from tests.fakes.cloudrun_monitoring import CloudMonitoring
from tests.fakes.cloudrun_points import Points
from tests.fakes.cloudrun_resources import SUFFIX, Resources
from tests.fakes.cloudrun_revisions import Image, Revision
from tests.fakes.cloudrun_traffic import DataPlane, Outage, Served
from tests.fakes.cloudrun_wire import Refused, Reply, Request, serve_connection

__all__ = ["CloudRun", "Fault", "Image", "Outage", "Served"]

CONTROL_HOST = "run.fake.test"
PROMETHEUS_HOST = "prometheus.fake.test"
PROJECT, REGION = "demo", "us-central1"


class CloudRun:
    """A running fake; use it in a `with`.

    Attributes:
        metrics: what a Prometheus-compatible endpoint, at `prometheus`, answers, and how late.
        monitoring: what Cloud Monitoring answers, and how late.
        points: what was written to Cloud Monitoring.
        ready_seconds: how much longer every revision takes to get ready.
        patience_seconds: after so long a startup probe gives up, if its own limit is not shorter.
        hosts: more hosts that are on this machine, such as another API's, and what answers for them.
        refused: targets of requests that nobody here answers, in order.
        calls: method and path of every request of the control plane, in order.
    """

    def __init__(
        self, images: Mapping[str, Image], *, settings: Mapping[str, str] | None = None, seed: int = 0
    ) -> None:
        """Prepare a fake.

        Args:
            images: what can be deployed, by reference without tag and digest, or by the whole reference.
            settings: environment of every revision beside what its service says, such as a fake bucket's address.
            seed: of the choice of a revision for each request.
        """
        self._images, self._settings = dict(images), dict(settings or {})
        self.resources = Resources()
        self._api = Api(self.resources, self._launch)
        self._data = DataPlane(self.resources, random.Random(seed))
        self.metrics = Metrics(self.resources)
        self.monitoring = CloudMonitoring(self.metrics, lambda: self._data.log)
        self.points = Points()
        self.ready_seconds = 0.0
        self.patience_seconds = 60.0
        self.hosts: dict[str, Callable[[Request], Reply]] = {MONITORING_HOST: self._monitored}
        self.refused: list[str] = []
        self.calls: list[tuple[str, str]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake-cloud-run", daemon=True)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="cloudrun-")
        self.proxy = ""
        self.prometheus = f"http://{PROMETHEUS_HOST}"

    def __enter__(self) -> CloudRun:
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._folder.cleanup()

    def environment(self, folder: Path) -> dict[str, str]:
        """Variables that bring gcloud, our scripts and HTTP clients here; gcloud's own files go to `folder`."""
        token = folder / "token"
        token.write_text("fake-token")
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return kept | {
            "CLOUDSDK_CONFIG": str(folder / "gcloud"),
            "CLOUDSDK_CORE_PROJECT": PROJECT,
            "CLOUDSDK_RUN_REGION": REGION,
            "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(token),
            "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
            "CLOUDSDK_CORE_SHOULD_PROMPT_TO_ENABLE_API": "false",
            "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
            "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_RUN": f"http://{CONTROL_HOST}/",
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING": f"http://{MONITORING_HOST}/",
            "http_proxy": self.proxy,
            "https_proxy": self.proxy,
            "no_proxy": "127.0.0.1,localhost",
        }

    def url(self, service: str, tag: str = "") -> str:
        """Return the URL of a service or a tag."""
        return f"http://{tag + '---' if tag else ''}{service}-{SUFFIX}.a.run.test"

    @property
    def log(self) -> list[Served]:
        """Every request that a revision answered, or should have."""
        return list(self._data.log)

    def traffic(self, service: str) -> dict[str, int]:
        """Return what percent each revision truly gets, without those that get nothing."""
        shares: dict[str, int] = {}
        for target in self.resources.find(service).traffic:
            if target["percent"]:
                shares[target["revisionName"]] = shares.get(target["revisionName"], 0) + target["percent"]
        return shares

    def fail(self, fault: Fault) -> None:
        """Let a request of the control plane go wrong."""
        self._call(lambda: self._api.fail(fault))

    def move_traffic(self, service: str, shares: Mapping[str, int]) -> None:
        """Move traffic as a person does, at the console."""
        self._call(lambda: self.resources.set_traffic(service, shares))

    def annotate(self, service: str, name: str, text: str) -> None:
        """Write an annotation of a service past everybody's version, as a person or a tool may."""

        def write() -> None:
            found = self.resources.find(service)
            found.metadata.setdefault("annotations", {})[name] = text
            found.touch()

        self._call(write)

    def kill(self, revision: str) -> None:
        """Kill a revision's process; it stays dead, as one does whose bundle is gone."""
        self._call(self.resources.revisions[revision].kill)

    def break_down(self, revision: str, outage: Outage) -> None:
        """Let some of a revision's instances, or of its routes, be dead from now on."""
        self._call(lambda: self._data.outages.update({revision: outage}))

    def wait_until(self, is_so: Callable[[], bool], seconds: float = 60) -> None:
        """Poll for something.

        Raises:
            TimeoutError: it did not come true.
        """
        deadline = time.monotonic() + seconds
        tick = threading.Event()
        while not is_so():
            if time.monotonic() > deadline:
                raise TimeoutError("the fake Cloud Run did not get there in time")
            tick.wait(0.02)

    def said(self, revision: str) -> str:
        """Return what a revision's process wrote."""
        return "".join(path.read_text() for path in sorted(Path(self._folder.name).glob(f"{revision}.[oe][ur][tr]")))

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def _call(self, work: Callable[[], object]) -> None:
        # a fault's `before` runs in the loop already
        if threading.current_thread() is self._thread:
            work()
            return

        async def run() -> None:
            work()

        self._run(run())

    async def _listen(self) -> None:
        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._keep(serve_connection(reader, writer, self._answer, self.refused.append))

        self._server = await asyncio.start_server(connected, "127.0.0.1", 0)
        self.proxy = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self._keep(self.metrics.collect())

    async def _close(self) -> None:
        if self._server:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for revision in self.resources.revisions.values():
            if revision.process and revision.process.poll() is None:
                revision.process.terminate()
        for revision in self.resources.revisions.values():
            revision.stop()

    def _keep(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: Request) -> Reply:
        if self._data.owns(request.host):
            return await self._data.answer(request)
        if request.host.endswith(CONTROL_HOST):
            self.calls.append((request.method, request.path))
            return self._api.answer(request)
        if request.host == PROMETHEUS_HOST:
            return self.metrics.answer(request)
        if request.host in self.hosts:
            return self.hosts[request.host](request)
        self.refused.append(request.host)
        return Refused(403, f"{request.host} is not on this machine").reply()

    def _monitored(self, request: Request) -> Reply:
        return self.points.answer(request) if self.points.takes(request) else self.monitoring.answer(request)

    def _launch(self, revision: Revision) -> None:
        self._keep(self._start(revision))

    async def _start(self, revision: Revision) -> None:
        image = self._image(revision.image)
        await asyncio.sleep(self.ready_seconds)
        is_ready = False
        if image is not None:
            revision.start(image, self._settings, Path(self._folder.name))
            is_ready = await revision.probe(self.patience_seconds)
        revision.state = "ready" if is_ready else "failed"
        if not is_ready:
            revision.kill()
        for service in self.resources.services.values():
            if service.name == revision.service:
                service.touch()
                with contextlib.suppress(KeyError):
                    self.resources.settle(service)

    def _image(self, reference: str) -> Image | None:
        name = reference.partition("@")[0]
        head, _, last = name.rpartition("/")
        bare = f"{head}/{last.partition(':')[0]}"
        return self._images.get(reference) or self._images.get(name) or self._images.get(bare)
