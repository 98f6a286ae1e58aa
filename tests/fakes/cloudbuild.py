"""A fake of the Cloud Build API, as far as `gcloud builds submit` asks it: it takes a build and says it succeeded."""

from __future__ import annotations

import re
from typing import Any

from tests.fakes.cloudrun_wire import Refused, Reply, Request

HOST = "cloudbuild.fake.test"
CREATE = re.compile(r"/v1/projects/([^/]+)/(?:locations/[^/]+/)?builds")
GET = re.compile(r"/v1/projects/([^/]+)/(?:locations/[^/]+/)?builds/([^/]+)")


class CloudBuild:
    """Answers for `HOST`; `builds` holds what was submitted, in order, and `status` how all of them end."""

    def __init__(self) -> None:
        self.builds: list[dict[str, Any]] = []
        self.status = "SUCCESS"

    def environment(self) -> dict[str, str]:
        """Variables that bring gcloud here, beside those of the proxy."""
        return {"CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDBUILD": f"http://{HOST}/"}

    def answer(self, request: Request) -> Reply:
        """Answer one request."""
        if request.method == "POST" and (found := CREATE.fullmatch(request.path)):
            self.builds.append(request.json())
            shown = self._show(len(self.builds) - 1, found[1])
            kind = "type.googleapis.com/google.devtools.cloudbuild.v1.BuildOperationMetadata"
            return Reply.json({"name": "operations/build/demo/1", "metadata": {"@type": kind, "build": shown}})
        if request.method == "GET" and (found := GET.fullmatch(request.path)):
            return Reply.json(self._show(int(found[2].removeprefix("build-")), found[1]))
        return Refused(404, f"no such route in the fake: {request.method} {request.path}").reply()

    def _show(self, number: int, project: str) -> dict[str, Any]:
        name = f"build-{number}"
        return {
            **self.builds[number],
            "id": name,
            "name": f"projects/{project}/locations/global/builds/{name}",
            "projectId": project,
            "status": self.status,
            "logUrl": f"http://{HOST}/{name}",
            "createTime": "2026-01-01T00:00:00Z",
        }
