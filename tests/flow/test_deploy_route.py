"""The example PACS of deploy/: a real Orthanc with its configuration and script sends firstlook what it should."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import SecondaryCaptureImageStorage

from tests import builders
from tests.peers import HOST, Orthanc, Raw, ScriptedPacs, free_port, missing, store, wait_until

pytestmark = pytest.mark.peer
DEPLOY = Path(__file__).parents[2] / "deploy" / "orthanc"


@contextmanager
def example_pacs(folder: Path, firstlook_port: int) -> Iterator[Orthanc]:
    """Run Orthanc as deploy/orthanc says; only ports and folders differ."""
    program = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
    if not Path(program).exists():
        missing("Orthanc")
    if {name for _, name in socket.if_nameindex()} - {"lo"} and os.environ.get("FIRSTLOOK_OPEN_NETWORK") != "1":
        pytest.skip("Orthanc listens on every interface: run by `make test`, in a network namespace of its own")
    settings = json.loads((DEPLOY / "orthanc.json").read_text())
    settings["DicomModalities"]["firstlook"] |= {"Host": HOST, "Port": firstlook_port}
    dicom, http = free_port(), free_port()
    settings |= {
        "StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db"), "DicomPort": dicom,
        "HttpPort": http, "HttpBindAddresses": [HOST], "AuthenticationEnabled": False, "Plugins": [],
        "LuaScripts": [str(DEPLOY / "route.lua")], "ExecuteLuaEnabled": True,
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log").open("w") as log, subprocess.Popen(
            [program, str(folder / "orthanc.json")], stdout=log, stderr=log) as process:
        try:
            pacs = Orthanc("PACS", dicom, f"http://{HOST}:{http}")
            wait_until(lambda: process.poll() is not None or " has started" in (folder / "log").read_text())
            assert process.poll() is None, (folder / "log").read_text()
            yield pacs
        finally:
            process.terminate()
            process.wait(20)


def _states(pacs: Orthanc) -> list[str]:
    return [job["State"] for job in pacs.get("/jobs?expand")]


def _secondary_capture() -> Any:
    ds = builders.radiograph(size=16, instance=9)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    ds.Modality = "OT"
    return ds


def test_images_of_the_chest_are_routed_and_results_are_not(tmp_path: Path) -> None:
    images = [*builders.ct_series(slices=2, size=16), builders.radiograph(size=16)]
    with ScriptedPacs(tmp_path / "firstlook", ae_title="FIRSTLOOK") as firstlook, \
            example_pacs(tmp_path, firstlook.port) as pacs:
        sent = [Raw.of(ds) for ds in (*images, _secondary_capture())]
        assert store(pacs.port, *sent, called="PACS", calling="CT1") == [0] * 4
        from_firstlook = Raw.of(builders.radiograph(size=16, instance=2))
        assert store(pacs.port, from_firstlook, called="PACS", calling="FIRSTLOOK") == [0]
        wait_until(lambda: len(_states(pacs)) == 3 and set(_states(pacs)) == {"Success"})
        assert firstlook.wait_for(lambda arrived: len(arrived) == 3, 10)
        arrived = {received.sop_instance_uid for received in firstlook.received()}
        assert arrived == {str(ds.SOPInstanceUID) for ds in images}
        assert len(pacs.get("/instances")) == 5


def test_what_failed_while_firstlook_was_away_is_sent_later(tmp_path: Path) -> None:
    port = free_port()
    with example_pacs(tmp_path, port) as pacs:
        assert store(pacs.port, Raw.of(builders.radiograph(size=16)), called="PACS", calling="DX1") == [0]
        wait_until(lambda: _states(pacs) == ["Failure"])
        with ScriptedPacs(tmp_path / "firstlook", ae_title="FIRSTLOOK", port=port) as firstlook:
            heart_beat(pacs)
            assert firstlook.wait_for(lambda arrived: len(arrived) == 1, 10)
            wait_until(lambda: _states(pacs) == ["Success"])


def heart_beat(pacs: Orthanc) -> None:
    """Do what Orthanc does each LuaHeartBeatPeriod (which older releases do not have)."""
    import httpx

    httpx.post(pacs.url + "/tools/execute-script", content=b"OnHeartBeat()").raise_for_status()
