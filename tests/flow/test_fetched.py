"""Earlier studies are fetched from the PACS that holds them, looked at behind all else, and the result is compared anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import FileDataset
from sqlmodel import select

from service.domain.job import DeliveryState, JobKind, JobState, StudyState
from service.store.filters import Filter, Shown
from service.store.tables import Job, Study
from service.store.worklist import census, reading_list
from tests.builders import as_bytes, ct_series, uid
from tests.flow.test_priors import bigger
from tests.hospital import TINY, Hospital, hospital, tiny_models
from tests.peers import HOST, Orthanc, free_port, orthanc, wait_until

QUICK = {"quiet_ct_s": 0.3, "start_early": False}
NOW, THEN, LONG_AGO, OTHERS = uid(1, 1), uid(21, 1), uid(22, 1), uid(23, 1)
SAME = {"PatientID": "P0001", "PatientName": "Test^Patient 1"}


@contextmanager
def house_with(folder: Path, port: int, archive: dict[str, Any], **priors: Any) -> Iterator[Hospital]:
    """Run a service on a port that fetches from one archive; every answer must come in 20 s."""
    models = tiny_models(folder / "models")
    place = {"name": "archive", "host": HOST, "timeout_s": 20.0} | archive
    with hospital(folder / "house", receive={"port": port, "any_calling_ae": True, "min_free_bytes": 0,
                                               "ready_mib": 8},
                  infer=TINY | {"models_dir": models}, assemble=QUICK, priors={"archives": [place], **priors}) as house:
        yield house


def held(server: Orthanc, images: list[FileDataset]) -> None:
    for image in images:
        server.post("/instances", as_bytes(image))


def earlier(patient: int, date: str, factor: float, **changes: Any) -> list[FileDataset]:
    return ct_series(patient=patient, spheres=bigger(factor, shift_mm=15.0), **(SAME | {"StudyDate": date} | changes))


@contextmanager
def fetched(folder: Path, retrieve: str) -> Iterator[tuple[Hospital, Orthanc]]:
    """Run an Orthanc that holds two earlier CT, one of a namesake under the same Patient ID, and a service beside it."""
    port = free_port()
    with orthanc(folder / "orthanc", {"FIRSTLOOK": (HOST, port)}) as server:
        held(server, earlier(21, "20251201", 0.7))
        held(server, earlier(22, "20250601", 0.9))
        held(server, earlier(23, "20251101", 0.8, PatientBirthDate="19310101"))
        archive = {"ae_title": server.ae_title, "port": server.port, "retrieve": retrieve}
        with house_with(folder, port, archive) as house:
            yield house, server


def revised(house: Hospital) -> Study:
    return house.delivered(NOW, revision=2)


@pytest.mark.peer
@pytest.mark.parametrize("retrieve", ["get", "move"])
def test_orthanc_hands_out_what_the_result_is_then_compared_with(tmp_path: Path, retrieve: str) -> None:
    with fetched(tmp_path, retrieve) as (house, _):
        house.send(*ct_series(StudyDate="20260102"))
        study = revised(house)
        prior = study.summary["prior"]
        assert (prior["study_instance_uid"], prior["study_date"]) == (THEN, "20251201")
        assert [e["study_date"] for e in prior["course"]] == ["20250601", "20251201"]
        assert [f["course"] for f in prior["following"]["lesions"]] == ["grown"]
        assert {house.study(u).summary["lesions"][0]["tracking_uid"] for u in (NOW, THEN, LONG_AGO)} == {
            study.summary["lesions"][0]["tracking_uid"]}, "one lesion over three studies"
        with house.app.database.reading() as session:
            listed = [e.study.study_instance_uid for e in reading_list(
                session, 100, house.app.clock(), 1e6, chosen=Filter(shown=Shown.ALL))]
            assert listed == [NOW] and census(session, house.app.clock(), 1e6).by_state[StudyState.ASSESSED] == 1
            assert session.exec(select(Study).where(Study.study_instance_uid == OTHERS)).first() is None
        assert house.study(THEN).fetched and house.study(THEN).delivery == DeliveryState.NONE
        assert {r.study_instance_uid for r in house.pacs.received()} == {NOW}
        sent = house.in_pacs(NOW)
        assert [ds.Modality for ds in sent].count("SEG") == 1, "the masks are the same: only the report is sent again"
        first, second = [ds for ds in sent if ds.Modality == "SR"]
        replaced = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
        assert replaced.ReferencedSOPInstanceUID == first.SOPInstanceUID
        trace = "\n".join(house.trace(NOW))
        assert "no_comparison: archive: 1 studies carry this Patient ID, but another birth date" in trace
        assert trace.index("the study of 20250601 fetched, 40 images") < trace.index("the study of 20251201 fetched")
        assert "complete: fetched whole from archive" in "\n".join(house.trace(THEN))
        count = house.app.metrics.registry.get_sample_value
        assert count("firstlook_priors_fetched_total", {"archive": "archive", "outcome": "fetched"}) == 2


@pytest.mark.peer
def test_a_fetched_study_that_somebody_sends_is_work_like_any_other(tmp_path: Path) -> None:
    with fetched(tmp_path, "get") as (house, _):
        house.send(*ct_series(StudyDate="20260102"))
        revised(house)
        assert not house.in_pacs(THEN)
        house.send(*earlier(21, "20251201", 0.7))
        study = house.delivered(THEN)
        assert not study.fetched and study.deadline_at is not None
        assert sorted(ds.Modality for ds in house.in_pacs(THEN)) == ["OT", "SEG", "SR"]
        assert any("from now on work like any other" in line for line in house.trace(THEN))


def test_an_archive_that_is_away_costs_the_study_nothing(tmp_path: Path) -> None:
    with house_with(tmp_path, 0, {"ae_title": "NOBODY", "port": free_port(), "timeout_s": 1.0}) as house:
        house.send(*ct_series())
        study = house.delivered(NOW)
        assert study.state == StudyState.ASSESSED and study.revision == 1
        job = wait_until(lambda: parked(house.jobs(NOW)))
        assert job.reason == "peer_unreachable"
        assert house.study(NOW).state == StudyState.ASSESSED


def parked(jobs: list[Job]) -> Job | None:
    return next((j for j in jobs if j.kind == JobKind.FETCH and j.state == JobState.PARKED), None)


def test_a_study_without_a_patient_id_asks_for_nothing(tmp_path: Path) -> None:
    with house_with(tmp_path, 0, {"ae_title": "NOBODY", "port": free_port()}) as house:
        house.send(*ct_series(PatientID=""))
        house.delivered(NOW)
        ended: Callable[[], bool] = lambda: all(j.state == JobState.DONE for j in house.jobs(NOW))  # noqa: E731
        wait_until(ended)
        assert any("without a Patient ID no earlier study can be asked for" in line for line in house.trace(NOW))
