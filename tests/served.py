"""The whole service as a process of its own: started, watched until it is ready, killed, started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from service.deliver.cstore import CStoreTarget
from service.errors import FirstlookError
from tests.hospital import tiny_models
from tests.peers import HOST, ScriptedPacs, wait_until


@contextmanager
def running(settings: Path, log: Path, web_port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run `firstlook serve` as a process and wait until it is ready; kill it at the end, if nobody has."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("FIRSTLOOK_")}
    with log.open("ab") as out:
        process = subprocess.Popen([sys.executable, "-m", "service.cli", "serve", "--settings", str(settings)],
                                   stdout=out, stderr=out, env=environ)
    try:
        wait_until(lambda: ready(web_port) or process.poll() is not None, 60)
        assert process.poll() is None, log.read_text()[-2000:]
        yield process
    finally:
        process.kill()
        process.wait(20)


def ready(web_port: int) -> bool:
    try:
        return httpx.get(f"http://{HOST}:{web_port}/health/ready", timeout=2).is_success
    except httpx.TransportError:
        return False


def settings_file(folder: Path, pacs: ScriptedPacs, dicom_port: int, web_port: int) -> Path:
    models = tiny_models(folder / "models")
    file = folder / "firstlook.toml"
    file.write_text(f"""
[store]
data_dir = {json.dumps(str(folder / "data"))}
[receive]
port = {dicom_port}
any_calling_ae = true
min_free_bytes = 0
ready_mib = 8
[assemble]
quiet_cxr_s = 0.2
quiet_ct_s = 0.2
[infer]
models_dir = {json.dumps(str(models))}
ct_bundles = ["tiny-ct"]
cxr_bundles = ["tiny-cxr"]
cxr_gate = ""
cxr_lungs = ""
[work]
first_wait_s = 0.1
[web]
port = {web_port}
[[deliver.targets]]
name = "pacs"
ae_title = "{pacs.ae_title}"
host = "{HOST}"
port = {pacs.port}
""")
    return file


def try_to_send(port: int, files: list[Path]) -> bool:
    try:
        CStoreTarget("service", "FIRSTLOOK", HOST, port, "CT1", 10).send(files)
    except FirstlookError:
        return False
    return True


class Zygote:
    """Starts services by forking; see tests/zygote.py."""

    def __init__(self, settings: Path, log: Path) -> None:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("FIRSTLOOK_")} | {"OPENBLAS_NUM_THREADS": "1"}
        self._settings = settings
        with log.open("ab") as out:
            self._process = subprocess.Popen([sys.executable, "-m", "tests.zygote"], stdin=subprocess.PIPE,
                                             stdout=subprocess.PIPE, stderr=out, env=environ, text=True)

    def start(self) -> int:
        """Start a service and return its process id."""
        return self._ask(f"start {self._settings}")

    def kill(self, process: int) -> None:
        """Kill a service and wait until it is gone."""
        os.kill(process, signal.SIGKILL)
        self._ask(f"wait {process}")

    def close(self) -> None:
        """End the zygote, and what it has started."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def _ask(self, line: str) -> int:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())
