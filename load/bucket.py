"""A bundle in a fake bucket on loopback, published as a real one is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from load.bundles import Bundle
from load.servers import ROOT, LoadError

BUCKET = "models"
# the client would look at the metadata of the bucket in the background, which the fake has not
NO_BACKGROUND = {"DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA": "true"}


@contextmanager
def publishing(bundle: Bundle) -> Iterator[dict[str, str]]:
    """Run a fake bucket that holds a bundle until the block ends; yields the settings that pin it there.

    Raises:
        LoadError: the bundle cannot be published.
    """
    fake = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.gcs", "--port", "0", "--bucket", BUCKET],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        url = fake.stdout.readline().strip() if fake.stdout is not None else ""
        if not url:
            raise LoadError("the fake bucket did not start")
        settings = {"STORAGE_EMULATOR_HOST": url, "NO_PROXY": "127.0.0.1", **NO_BACKGROUND}
        published = subprocess.run(
            [sys.executable, "-m", "model.publish", "upload", str(bundle.folder), f"gs://{BUCKET}/penguins"],
            cwd=ROOT,
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            check=False,
        )
        pinned = dict(re.findall(r"\b(MODEL_URI|MODEL_DIGEST)=(\S+)", published.stdout))
        if published.returncode or len(pinned) != 2:
            raise LoadError(f"the bundle cannot be published: {published.stderr or published.stdout}")
        yield {**settings, **pinned}
    finally:
        fake.terminate()
        fake.communicate()
