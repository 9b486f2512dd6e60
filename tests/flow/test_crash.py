"""The whole service killed at random moments while images come: what was acknowledged is there, every study ends once.

The number of kills is that of FIRSTLOOK_KILLS, a few where it is not set: a hundred take some minutes.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from tests.builders import ct_series, radiograph, uid
from tests.peers import HOST, Link, Raw, ScriptedPacs, free_port, wait_until
from tests.served import Zygote, ready, settings_file

KILLS = int(os.environ.get("FIRSTLOOK_KILLS", "8"))
STUDIES = max(12, KILLS // 2)
CONTEXTS = [(uid, ExplicitVRLittleEndian) for uid in (CTImageStorage, DigitalXRayImageStorageForPresentation)]


class Modality(threading.Thread):
    """Sends studies one after the other, each image again and again until it is acknowledged."""

    def __init__(self, port: int, studies: list[list[Raw]]) -> None:
        super().__init__(name="modality", daemon=True)
        self._port, self._studies, self._gone = port, studies, threading.Event()
        self.acknowledged: set[str] = set()
        self.interruptions = 0

    def run(self) -> None:
        """Send until all is acknowledged, or `stop`."""
        for study in self._studies:
            while left := [raw for raw in study if raw.sop_instance_uid not in self.acknowledged]:
                if self._gone.is_set():
                    return
                self._send(left)

    def stop(self) -> None:
        """End after the present image."""
        self._gone.set()

    def _send(self, raws: list[Raw]) -> None:
        link = Link(self._port, CONTEXTS)
        for raw in raws:
            if not link.association.is_established or link.store(raw) != 0:
                self.interruptions += 1
                break
            self.acknowledged.add(raw.sop_instance_uid)
        else:
            link.association.release()
        link.close()
        self._gone.wait(0.05)


def study(number: int) -> list[Raw]:
    """Return a CT, each third time, or a radiograph."""
    made = ct_series(patient=number, slices=12) if number % 3 == 0 else [radiograph(patient=number)]
    return [Raw.of(dataset) for dataset in made]


@contextmanager
def besieged(folder: Path, studies: list[list[Raw]], pacs: ScriptedPacs) -> Iterator[tuple[int, Modality]]:
    """Kill the service over and over while two modalities send; then let it run and yield its page's port."""
    dicom_port, web_port = free_port(), free_port()
    zygote = Zygote(settings_file(folder, pacs, dicom_port, web_port), folder / "service.log")
    modalities = [Modality(dicom_port, studies[n::2]) for n in range(2)]
    chance = random.Random(int(os.environ.get("FIRSTLOOK_SEED", "11")))
    try:
        for modality in modalities:
            modality.start()
        for number in range(KILLS):
            process = zygote.start()
            if number % 3:  # each third is killed while it starts, the others while they serve
                wait_until(lambda: ready(web_port), 60)
            until = time.monotonic() + chance.uniform(0.0, 1.2)
            wait_until(lambda until=until: time.monotonic() >= until)
            zygote.kill(process)
        zygote.start()
        wait_until(lambda: ready(web_port), 60)
        for modality in modalities:
            wait_until(lambda modality=modality: not modality.is_alive(), 120)
        modalities[0].acknowledged |= modalities[1].acknowledged
        yield web_port, modalities[0]
    finally:
        for modality in modalities:
            modality.stop()
        zygote.close()
        for modality in modalities:
            modality.join(30)


@pytest.mark.timeout(300 + 10 * KILLS)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pynetdicom keeps sockets nobody answered
def test_killed_over_and_over_under_load_nothing_is_lost_and_every_study_ends_once(tmp_path: Path) -> None:
    studies = [study(number) for number in range(1, STUDIES + 1)]
    sent = {uid(number, 1): {raw.sop_instance_uid for raw in raws} for number, raws in enumerate(studies, 1)}
    with ScriptedPacs(tmp_path / "pacs") as pacs, besieged(tmp_path, studies, pacs) as (web_port, modality):
        base = f"http://{HOST}:{web_port}"
        assert modality.acknowledged == set().union(*sent.values()) and modality.interruptions

        def standing() -> dict[str, tuple[str, str]]:
            found = httpx.get(f"{base}/api/worklist", timeout=30).json()["studies"]
            return {s["study_instance_uid"]: (s["state"], s["delivery"]) for s in found}

        wait_until(lambda: set(standing().values()) == {("assessed", "delivered")} and len(standing()) == len(sent), 180)
        told = {study: httpx.get(f"{base}/api/studies/{study}", timeout=30).json() for study in sent}
    for one, said in told.items():
        assert sum(said["images"].values()) == len(sent[one])
        now = [o for o in said["objects"] if o["revision"] == said["revision"]]
        assert Counter(o["kind"] for o in now) == (
            {"seg": 1, "sc": 1, "sr": 1} if said["kind"] == "ct" else {"sr": 1, "sc": 1})
        in_pacs = {r.sop_instance_uid for r in pacs.received() if r.study_instance_uid == one}
        assert {o["sop_instance_uid"] for o in now} <= in_pacs <= {o["sop_instance_uid"] for o in said["objects"]}
        assert said["revision"] == 1 or said["kind"] == "ct", "one image is looked at once"
        ends = Counter((j["kind"], j["revision"], j["target"]) for j in said["jobs"] if j["state"] == "done")
        assert ends["infer", said["revision"], ""] == 1 and set(ends.values()) == {1}
        assert all(j["state"] in ("done", "cancelled") for j in said["jobs"])
    assert not list((tmp_path / "data").rglob("*.part"))
