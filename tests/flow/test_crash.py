"""Killed in the middle and started again: nothing acknowledged is lost, every study ends once."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import httpx
import pytest

from service.deliver.cstore import CStoreTarget
from service.errors import FirstlookError
from tests.builders import ct_series, radiograph, uid, write
from tests.hospital import tiny_models
from tests.peers import HOST, ScriptedPacs, free_port, wait_until

KILLS = 6


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


@pytest.mark.timeout(400)
def test_killed_at_random_moments_every_study_still_ends_once(tmp_path: Path) -> None:
    chance, pause = random.Random(7), Event()
    sent = {p: ct_series(patient=p, slices=15) if p % 3 == 0 else [radiograph(patient=p)] for p in range(1, KILLS + 1)}
    studies = {uid(p, 1): write(datasets, tmp_path / str(p)) for p, datasets in sent.items()}
    dicom_port, web_port = free_port(), free_port()
    with ScriptedPacs(tmp_path / "pacs") as pacs:
        settings, log = settings_file(tmp_path, pacs, dicom_port, web_port), tmp_path / "service.log"
        acknowledged = []
        for study, files in studies.items():
            with running(settings, log, web_port) as process:
                if try_to_send(dicom_port, files):
                    acknowledged.append(study)
                pause.wait(chance.uniform(0.0, 1.5))
                process.kill()
        with running(settings, log, web_port):
            base = f"http://{HOST}:{web_port}"

            def delivered() -> dict[str, tuple[str, str]]:
                found = httpx.get(f"{base}/api/worklist", timeout=10).json()["studies"]
                return {s["study_instance_uid"]: (s["state"], s["delivery"]) for s in found}

            wait_until(lambda: set(delivered().values()) == {("assessed", "delivered")}, 90)
            told = {study: httpx.get(f"{base}/api/studies/{study}", timeout=10).json() for study in acknowledged}
    assert len(acknowledged) == len(studies)
    for study, said in told.items():
        assert said["state"] == "assessed" and sum(said["images"].values()) == len(studies[study])
        kinds = Counter(o["kind"] for o in said["objects"])
        assert kinds == ({"seg": 1, "sc": 1, "sr": 1} if said["kind"] == "ct" else {"sr": 1, "sc": 1})
        in_pacs = {r.sop_instance_uid for r in pacs.received() if r.study_instance_uid == study}
        assert in_pacs == {o["sop_instance_uid"] for o in said["objects"]}
    assert not list((tmp_path / "data").rglob("*.part"))
