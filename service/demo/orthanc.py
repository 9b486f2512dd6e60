"""A real Orthanc as the demo's PACS, where one is installed: started for the demo and stopped with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import httpx

from service.demo.pacs import Received

_BINARIES = ("Orthanc", "/usr/sbin/Orthanc")


class OrthancPacs:
    """An Orthanc on loopback, known as ORTHANC, that only takes what our AE title sends from this machine."""

    def __init__(self, ae_title: str, folder: Path, port: int, http_port: int, our_ae_title: str) -> None:
        self.ae_title, self.port, self._folder = ae_title, port, folder
        self._url = f"http://127.0.0.1:{http_port}"
        self._settings = {
            "Name": "firstlook demo", "StorageDirectory": str(folder / "storage"), "Plugins": [],
            "IndexDirectory": str(folder / "storage"), "DicomAet": ae_title, "DicomPort": port, "HttpPort": http_port,
            "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "DicomCheckCalledAet": True,
            "DicomAlwaysAllowEcho": False, "DicomAlwaysAllowStore": False, "DicomCheckModalityHost": True,
            "DicomModalities": {"firstlook": [our_ae_title, "127.0.0.1", 1]}, "StableAge": 1,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers. Raises: OSError when it is not installed or does not start."""
        binary = next((b for b in map(shutil.which, _BINARIES) if b), None)
        if binary is None:
            raise OSError("Orthanc is not installed (Debian and Ubuntu: apt-get install orthanc); or use --pacs builtin")
        self._folder.mkdir(parents=True)
        config = self._folder / "orthanc.json"
        config.write_text(json.dumps(self._settings, indent=1), encoding="utf-8")
        with (self._folder / "orthanc.log").open("wb") as log:
            self._process = subprocess.Popen(
                [binary, str(config)], stdout=log, stderr=log, env={**os.environ, "TCP_NODELAY": "1"})
        ends_at = time.monotonic() + 30
        while time.monotonic() < ends_at and self._process.poll() is None:
            try:
                if httpx.get(f"{self._url}/system", timeout=1).is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        raise OSError(f"Orthanc did not start; see {self._folder / 'orthanc.log'}")

    def stop(self) -> None:
        """Stop it; its files stay."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)

    def received(self) -> list[Received]:
        """Return what it holds, each object as a file beside its storage."""
        held = []
        with httpx.Client(base_url=self._url, timeout=30) as http:
            for instance in http.get("/instances", params={"expand": ""}).json():
                path = self._folder / f"{instance['ID']}.dcm"
                if not path.exists():
                    path.write_bytes(http.get(f"/instances/{instance['ID']}/file").content)
                about = http.get(f"/instances/{instance['ID']}/simplified-tags").json()
                held.append(Received(path, http.get(f"/instances/{instance['ID']}/metadata/SopClassUid").text,
                                     about["SOPInstanceUID"], about["StudyInstanceUID"]))
        return held
