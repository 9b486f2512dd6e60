"""An S3 server on this machine, spoken to over HTTP as any other, that can be taken away."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.peers import HOST, free_port, missing, wait_until

KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests", "AWS_DEFAULT_REGION": "us-east-1"}
NEEDED = ("moto", "flask", "flask_cors", "s3fs")


@dataclass
class S3:
    """A server with one bucket, `images`. url: of a place in it for the service's files."""

    process: subprocess.Popen[bytes]
    endpoint: str
    url: str = "s3://images/firstlook"

    def names(self, folder: str = "") -> list[str]:
        """Return the names of what is in the bucket, below the service's place."""
        import fsspec

        system = fsspec.filesystem("s3", client_kwargs={"endpoint_url": self.endpoint}, use_listings_cache=False,
                                   skip_instance_cache=True)
        found: list[Any] = system.find(f"images/firstlook/{folder}")
        return sorted(str(name).removeprefix("images/firstlook/") for name in found)

    def stop(self) -> None:
        """Take the server away."""
        self.process.kill()
        self.process.wait(20)


@contextmanager
def s3_server(folder: Path) -> Iterator[S3]:
    """Run a server; skip the test where it is not installed."""
    for name in NEEDED:
        if find_spec(name) is None:
            missing(f"{name} (of the extras s3 and dev)")
    port = free_port()
    endpoint = f"http://{HOST}:{port}"
    with (folder / "s3.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)],
                                   stdout=log, stderr=log, env={**os.environ, **KEYS})
    try:
        wait_until(lambda: _answers(endpoint) or process.poll() is not None, 60)
        assert httpx.put(f"{endpoint}/images").is_success, (folder / "s3.log").read_text()[-2000:]
        yield S3(process, endpoint)
    finally:
        process.kill()
        process.wait(20)


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """An S3 server, and its keys in the environment."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with s3_server(tmp_path) as server:
        yield server


def _answers(endpoint: str) -> bool:
    try:
        return httpx.get(endpoint, timeout=2).is_success
    except httpx.TransportError:
        return False
