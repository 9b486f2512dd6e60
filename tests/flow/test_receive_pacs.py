"""The demo's PACS, and the scripted one of the tests, are peers to be relied on."""

from __future__ import annotations

import threading
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as FindModel

from tests import builders
from tests.peers import HOST, Link, Raw, ScriptedPacs, dcmtk_run, echo, orthanc, send, store

SLICES = builders.ct_series(slices=4, size=16)
RAWS = [Raw.of(ds) for ds in SLICES]


def find(pacs: ScriptedPacs, **keys: object) -> list[Dataset]:
    query = Dataset()
    for keyword, value in keys.items():
        setattr(query, keyword, value)
    entity = AE("ASKER")
    entity.add_requested_context(FindModel)
    association = entity.associate(HOST, pacs.port, ae_title="PACS")
    answers = [ds for status, ds in association.send_c_find(query, FindModel) if status.Status == 0xFF00]
    association.release()
    return answers


def test_what_is_stored_is_a_file_and_is_told(tmp_path: Path):
    with ScriptedPacs(tmp_path) as pacs:
        assert store(pacs.port, *RAWS, called="PACS") == [0] * 4
        assert pacs.wait_for(lambda arrived: len(arrived) == 4, 10)
        for received, made in zip(pacs.received(), SLICES, strict=True):
            assert received.sop_instance_uid == made.SOPInstanceUID
            assert received.study_instance_uid == made.StudyInstanceUID
            assert pydicom.dcmread(received.path).PixelData == made.PixelData


def test_waiting_for_what_does_not_come_ends(tmp_path: Path):
    with ScriptedPacs(tmp_path) as pacs:
        assert not pacs.wait_for(lambda arrived: bool(arrived), 0.05)


@pytest.mark.parametrize(("keys", "expected"), [
    ({"PatientID": "P0001"}, 1), ({"PatientID": "P*"}, 2), ({"PatientID": "P000?"}, 2), ({"PatientID": "P9"}, 0),
    ({"StudyDate": "20260101-20260103"}, 2), ({"StudyDate": "20260103-"}, 0), ({"StudyDate": "-20260102"}, 2),
    ({"ModalitiesInStudy": "DX"}, 1), ({"StudyInstanceUID": [builders.uid(1, 1), builders.uid(2, 1)]}, 2), ({}, 2),
])
def test_studies_are_found_by_key(tmp_path: Path, keys: dict[str, object], expected: int):
    builders.write([*SLICES, builders.radiograph(size=16)], tmp_path)
    with ScriptedPacs(tmp_path) as pacs:
        assert len(find(pacs, QueryRetrieveLevel="STUDY", **keys)) == expected


def test_the_count_of_a_study_grows_with_what_arrives(tmp_path: Path):
    with ScriptedPacs(tmp_path) as pacs:
        store(pacs.port, *RAWS[:3], called="PACS")
        asked = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": builders.uid(1, 1),
                 "NumberOfStudyRelatedInstances": None, "ModalitiesInStudy": None, "InstitutionName": ""}
        [before] = find(pacs, **asked)
        store(pacs.port, *RAWS, called="PACS")
        [after] = find(pacs, **asked)
        assert (before.NumberOfStudyRelatedInstances, after.NumberOfStudyRelatedInstances) == (3, 4)
        assert (after.ModalitiesInStudy, after.InstitutionName) == ("CT", "")


def test_series_and_images_are_found(tmp_path: Path):
    builders.write(SLICES, tmp_path)
    with ScriptedPacs(tmp_path) as pacs:
        [series] = find(pacs, QueryRetrieveLevel="SERIES", StudyInstanceUID=builders.uid(1, 1), SeriesInstanceUID="",
                        NumberOfSeriesRelatedInstances=None)
        assert (series.SeriesInstanceUID, series.NumberOfSeriesRelatedInstances) == (builders.uid(1, 1, 1), 4)
        images = find(pacs, QueryRetrieveLevel="IMAGE", SeriesInstanceUID=builders.uid(1, 1, 1), SOPInstanceUID="")
        assert [i.SOPInstanceUID for i in images] == [ds.SOPInstanceUID for ds in SLICES]
        assert find(pacs, QueryRetrieveLevel="PATIENT") == []


def test_a_refusal_is_given_as_often_as_told(tmp_path: Path):
    with ScriptedPacs(tmp_path) as pacs:
        pacs.refuse(0xA700, times=2)
        assert store(pacs.port, *RAWS, called="PACS") == [0xA700, 0xA700, 0, 0]
        pacs.refuse(0xC000)
        assert store(pacs.port, *RAWS, called="PACS") == [0xC000] * 4
        pacs.resume()
        assert store(pacs.port, RAWS[0], called="PACS") == [0]
        assert len(pacs.attempts) == 9


def test_an_abort_ends_the_association_and_the_next_is_welcome(tmp_path: Path):
    with ScriptedPacs(tmp_path) as pacs:
        pacs.abort(times=1)
        with Link(pacs.port, [(RAWS[0].sop_class_uid, RAWS[0].transfer_syntax_uid)], called="PACS") as link:
            assert link.store(RAWS[0]) is None
        assert store(pacs.port, RAWS[0], called="PACS") == [0]


def test_a_stall_lasts_until_resumed(tmp_path: Path):
    answers: list[int | None] = []
    with ScriptedPacs(tmp_path) as pacs:
        pacs.stall()
        sender = threading.Thread(target=lambda: answers.extend(store(pacs.port, RAWS[0], called="PACS")))
        sender.start()
        sender.join(0.3)
        assert sender.is_alive()
        pacs.resume()
        sender.join(20)
        assert answers == [0]


@pytest.mark.peer
def test_dcmtk_stores_echoes_and_queries(tmp_path: Path):
    paths = builders.write(SLICES, tmp_path / "sent")
    with ScriptedPacs(tmp_path / "pacs") as pacs:
        assert echo(HOST, pacs.port, called="PACS").returncode == 0
        assert send(paths, HOST, pacs.port, called="PACS").returncode == 0
        found = dcmtk_run("findscu", "-S", "-aec", "PACS", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID",
                          "-k", "NumberOfStudyRelatedInstances", HOST, pacs.port)
        assert f"[{builders.uid(1, 1)}" in found.stderr
        assert "IS [4 ]" in found.stderr


@pytest.mark.peer
def test_orthanc_runs_and_holds_what_is_sent(tmp_path: Path):
    paths = builders.write(SLICES, tmp_path / "sent")
    with orthanc(tmp_path / "orthanc") as server:
        assert send(paths, HOST, server.port, called=server.ae_title).returncode == 0
        assert server.get("/statistics")["CountInstances"] == 4
