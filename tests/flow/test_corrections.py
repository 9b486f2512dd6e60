"""What a person sends back from a viewer is attached to the study and its findings; the word of a device is not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import highdicom as hd
import httpx
import numpy as np
import pytest
from highdicom.seg import Segmentation, SegmentDescription
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.sr.codedict import codes as concepts
from sqlmodel import select

from service.domain import codes
from service.report.coded import concept
from service.store.tables import Correction, Instance, Opinion
from tests.builders import Sphere, chest, ct_series, uid, write
from tests.hospital import TINY, Hospital, hospital, tiny_models
from tests.peers import HOST, missing, send, wait_until

STUDY = uid(1, 1)
LUNGS = chest(15, (5.0, 2.5, 2.5), 128)[:2]
SLICES = ct_series(slices=15, spheres=[*LUNGS, Sphere(LUNGS[0].centre_mm, LUNGS[0].radius_mm / 2, -100)])


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Hospital]:
    with hospital(tmp_path / "house", infer=TINY | {"models_dir": tiny_models(tmp_path / "models")}) as running:
        running.send(*SLICES)
        running.delivered(STUDY)
        yield running


def ours(house: Hospital, modality: str) -> FileDataset:
    return next(ds for ds in house.in_pacs(STUDY) if ds.Modality == modality)


def infection(house: Hospital) -> NDArray[np.bool_]:
    """Return our infection as (z, y, x), z as in SLICES."""
    seg = hd.seg.Segmentation.from_dataset(ours(house, "SEG"))
    (number,) = (d.segment_number for d in seg.SegmentSequence if d.SegmentLabel == "infection")
    uids = [ds.SOPInstanceUID for ds in SLICES]
    found = seg.get_pixels_by_source_instance(uids, segment_numbers=[number], assert_missing_frames_are_empty=True)
    return np.asarray(found[..., 0] > 0)


def redrawn(mask: NDArray[np.bool_], how: str = "MANUAL", label: str = "infection", **changes: Any) -> Segmentation:
    """Return a segmentation as a viewer makes it: of another maker, with UIDs of its own."""
    described = SegmentDescription(
        segment_number=1, segment_label=label, segmented_property_category=concept(codes.MORPHOLOGICALLY_ABNORMAL),
        segmented_property_type=concept(codes.OPACITY), algorithm_type=how,
        algorithm_identification=None if how == "MANUAL" else hd.AlgorithmIdentificationSequence(
            "Another", concepts.cid7162.ArtificialIntelligence, "1"))
    made = Segmentation(
        source_images=deepcopy(SLICES), pixel_array=mask.astype(np.uint8), segmentation_type="BINARY",
        segment_descriptions=[described], series_instance_uid=hd.UID(), series_number=50, sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="Another maker", manufacturer_model_name="Viewer", software_versions="3", device_serial_number="7",
        omit_empty_frames=bool(mask.any()))
    for keyword, value in changes.items():
        setattr(made, keyword, value)
    return made


def signed(house: Hospital, present: bool) -> FileDataset:
    """Return our report as a radiologist changed and verified it in a reporting system."""
    report = ours(house, "SR")
    report.PredecessorDocumentsSequence = [Dataset()]
    series = Dataset()
    series.SeriesInstanceUID, series.ReferencedSOPSequence = report.SeriesInstanceUID, [Dataset()]
    series.ReferencedSOPSequence[0].ReferencedSOPClassUID = report.SOPClassUID
    series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID = report.SOPInstanceUID
    report.PredecessorDocumentsSequence[0].StudyInstanceUID = STUDY
    report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence = [series]
    report.SOPInstanceUID = report.file_meta.MediaStorageSOPInstanceUID = hd.UID()
    report.SeriesInstanceUID, report.Manufacturer, report.VerificationFlag = hd.UID(), "Reporting", "VERIFIED"
    for item in items(report):
        name = item.ConceptNameCodeSequence[0] if "ConceptNameCodeSequence" in item else None
        if name is not None and name.CodeValue in (codes.FINDING.value, codes.FINDING_ABSENT.value):
            item.ConceptNameCodeSequence = [concept(codes.FINDING if present else codes.FINDING_ABSENT)]
    return report


def items(ds: Dataset) -> Iterator[Dataset]:
    for item in ds.get("ContentSequence") or ():
        yield item
        yield from items(item)


def send_back(house: Hospital, *objects: Dataset) -> list[Correction]:
    """Send objects with DCMTK, as a viewer would, and return what became of them once it is decided."""
    files = write(objects, house.folder / f"back-{len(list(house.folder.iterdir()))}")  # type: ignore[arg-type]
    assert house.app.listener is not None
    done = send(files, HOST, house.app.listener.port, "VIEWER1", "FIRSTLOOK", "--required")
    assert done.returncode == 0, done.stderr
    return decided(house, {ds.SOPInstanceUID for ds in objects})


def decided(house: Hospital, uids: set[str]) -> list[Correction]:
    def rows() -> list[Correction]:
        with house.app.database.reading() as session:
            found = session.exec(select(Correction).order_by(Correction.id)).all()  # type: ignore[arg-type]
        return [c for c in found if c.sop_instance_uid in uids and c.state != "waiting"]

    wait_until(lambda: len(rows()) == len(uids))
    return rows()


def opinions(house: Hospital) -> list[tuple[str, str, str, str]]:
    return [(o.reader, o.finding, o.verdict, o.why) for o in house.rows(Opinion, STUDY)]


@pytest.mark.peer
def test_a_segmentation_that_a_person_redrew_is_compared_and_agrees(house: Hospital, tmp_path: Path) -> None:
    mine = infection(house)
    theirs = mine.copy()
    theirs[: len(theirs) // 2] = False
    (row,) = send_back(house, redrawn(theirs))
    (segment,) = row.told["segments"]
    both = 2 * np.count_nonzero(mine & theirs) / (np.count_nonzero(mine) + np.count_nonzero(theirs))
    assert (row.state, row.kind, row.calling_aet, row.revision) == ("attached", "seg", "VIEWER1", 1)
    assert segment["dice"] == pytest.approx(both, abs=1e-4) and 0.3 < both < 0.9
    assert segment["volume_ml"] == pytest.approx(np.count_nonzero(theirs) * 5 * 2.5 * 2.5 / 1000, abs=0.01)
    assert opinions(house) == [("SEG from VIEWER1", "infection", "agree", "")]
    assert any(line.startswith("feedback: a segmentation from VIEWER1: infection") for line in house.trace(STUDY))
    page = httpx.get(f"http://{HOST}:{house.app.web_port}/studies/{STUDY}").text
    assert f"Dice {both:.2f}" in page and "Agrees (SEG from VIEWER1" in page
    kept = house.app.results.root / "corrections" / row.path
    assert dcmread(kept).Manufacturer == "Another maker", "it is kept for retraining"
    with house.app.database.reading() as session:
        assert len(session.exec(select(Instance)).all()) == len(SLICES), "it is no image of the study"
    assert house.study(STUDY).state == "assessed"
    assert send_back(house, dcmread(kept))[0].id == row.id, "a second copy changes nothing"


@pytest.mark.peer
def test_an_empty_segment_says_that_nothing_is_there(house: Hospital) -> None:
    (row,) = send_back(house, redrawn(np.zeros_like(infection(house))))
    assert row.told["presence"] == {codes.OPACITY.value: "absent"}
    assert opinions(house) == [("SEG from VIEWER1", "infection", "disagree", "not_there")]


@pytest.mark.peer
def test_a_signed_report_agrees_or_disagrees_with_each_finding(house: Hospital) -> None:
    (row,) = send_back(house, signed(house, present=False))
    assert row.told["verified"] and row.told["replaces"] and row.kind == "sr"
    assert opinions(house) == [("SR from VIEWER1", "infection", "disagree", "not_there")]
    send_back(house, signed(house, present=True))
    assert opinions(house) == [("SR from VIEWER1", "infection", "agree", "")], "the newest word of a sender counts"
    feedback = httpx.get(f"http://{HOST}:{house.app.web_port}/api/feedback").json()
    assert [(m["finding"], m["agreed"], m["judged"]) for m in feedback["model"]] == [("infection", 1, 1)]


@pytest.mark.peer
@pytest.mark.parametrize(("what", "why"), [
    ("automatic", "made automatically"), ("patient", "Patient ID"), ("elsewhere", "no image of the study"),
    ("size", "rows or columns"), ("device", "no person observed it"), ("damaged", "InvalidDicomError|Error"),
])
def test_what_is_no_word_of_a_person_on_these_images_is_set_aside_and_not_kept(house: Hospital, what: str, why: str) -> None:
    mask = infection(house)
    if what in ("device", "damaged"):
        sent: Any = signed(house, present=True)
        sent.VerificationFlag = "UNVERIFIED"
        if what == "damaged":
            sent = redrawn(mask)
            sent.NumberOfFrames = 1000
            why = "number of its frames"
    else:
        sent = redrawn(mask, "AUTOMATIC" if what == "automatic" else "MANUAL",
                       **({"PatientID": "SOMEBODY"} if what == "patient" else {}))
        if what == "size":
            sent.Rows += 1
        for frame in sent.PerFrameFunctionalGroupsSequence if what == "elsewhere" else ():
            frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID = uid(9, 9)
            frame.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 9999]
    (row,) = send_back(house, sent)
    assert row.state == "set_aside" and why in row.detail and row.path == ""
    assert not list((house.app.results.root / "corrections").glob("??/*.dcm"))
    assert opinions(house) == []
    assert "SOMEBODY" not in "".join(house.trace(STUDY))
    assert row.detail in httpx.get(f"http://{HOST}:{house.app.web_port}/studies/{STUDY}").text


def nrrd(mask: NDArray[np.bool_], path: Path) -> None:
    """Write a (z, y, x) mask on the grid of SLICES as NRRD."""
    z, y, x = mask.shape
    path.write_bytes(
        f"NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: {x} {y} {z}\n"
        "space directions: (2.5,0,0) (0,2.5,0) (0,0,5)\nkinds: domain domain domain\nendian: little\nencoding: raw\n"
        "space origin: (0,0,0)\n\n".encode() + mask.astype("<i2").tobytes())


@pytest.mark.peer
def test_a_segmentation_by_the_converter_of_a_common_viewer_is_read(house: Hospital, tmp_path: Path) -> None:
    program = shutil.which("itkimage2segimage") or str(Path(sys.executable).parent / "itkimage2segimage")
    if not Path(program).exists():
        missing("dcmqi")
    mask = infection(house)
    mask[:, :, :40] = False

    def coded(code: codes.Code) -> dict[str, str]:
        return {"CodeValue": code.value, "CodingSchemeDesignator": code.scheme, "CodeMeaning": code.meaning}

    (tmp_path / "meta.json").write_text(json.dumps({
        "ContentCreatorName": "Reader", "SeriesDescription": "Segmentation", "SeriesNumber": "300", "InstanceNumber": "1",
        "segmentAttributes": [[{
            "labelID": 1, "SegmentDescription": "opacity", "SegmentLabel": "opacity", "SegmentAlgorithmName": "brush",
            "SegmentAlgorithmType": "SEMIAUTOMATIC",
            "SegmentedPropertyCategoryCodeSequence": coded(codes.MORPHOLOGICALLY_ABNORMAL),
            "SegmentedPropertyTypeCodeSequence": coded(codes.OPACITY), "recommendedDisplayRGBValue": [200, 10, 10]}]]}))
    nrrd(mask, tmp_path / "mask.nrrd")
    write(SLICES, tmp_path / "images")
    command: Sequence[str] = (
        program, "--inputImageList", str(tmp_path / "mask.nrrd"), "--inputDICOMDirectory", str(tmp_path / "images"),
        "--inputMetadata", str(tmp_path / "meta.json"), "--outputDICOM", str(tmp_path / "seg.dcm"))
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = send_back(house, dcmread(tmp_path / "seg.dcm"))
    assert row.state == "attached", row.detail
    (segment,) = row.told["segments"]
    assert segment["label"] == "infection"
    assert segment["volume_ml"] == pytest.approx(np.count_nonzero(mask) * 5 * 2.5 * 2.5 / 1000, abs=0.01)


def test_where_corrections_are_switched_off_nothing_of_others_is_kept(tmp_path: Path) -> None:
    infer = TINY | {"models_dir": tiny_models(tmp_path / "models")}
    with hospital(tmp_path / "house", infer=infer, receive={"corrections": False}) as closed:
        closed.send(*SLICES)
        closed.delivered(STUDY)
        closed.send_files(write([redrawn(infection(closed))], tmp_path / "back"))  # type: ignore[list-item]
        wait_until(lambda: any("result of another system" in line for line in closed.trace(STUDY)))
        assert not (closed.app.results.root / "corrections").exists() and opinions(closed) == []
