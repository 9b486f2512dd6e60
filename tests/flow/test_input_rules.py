"""What may come in, as built series against the whole service: read with what limits it, or refused with one reason.

A refusal says the same in the SR in the PACS, on the worklist, on the study page and in the trace.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import SecondaryCaptureImageStorage

from service.domain.job import StudyState
from service.domain.study import DX_FOR_PROCESSING
from service.errors import Reason
from tests.builders import Sphere, ct_series, enhanced_ct, radiograph, ribs, uid
from tests.contracts import gate
from tests.hospital import TINY, Hospital, hospital, more_models
from tests.peers import HOST

SPACING = (5.0, 1.5, 1.5)
MIDDLE = (60.0, 96.0)
BALLS = [Sphere((*MIDDLE, 60.0), 45, -850), Sphere((*MIDDLE, 140.0), 45, -850), Sphere((*MIDDLE, 60.0), 20, -100)]
numbers = count(500)
Made = list[FileDataset]
Make = Callable[[int], Made]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """Run the whole service for all of these, with lung fields, so that findings are placed."""
    folder = tmp_path_factory.mktemp("rules")
    bundles = TINY | {"cxr_bundles": ["tiny-cxr", "tiny-findings"], "cxr_lungs": "tiny-lungs"}
    with hospital(folder, infer=bundles | {"models_dir": more_models(folder / "models")}) as running:
        yield running


def chest(patient: int, **changes: Any) -> Made:
    """Return 24 slices of two lungs, whole, one with a dense ball in it."""
    return ct_series(patient=patient, slices=24, size=128, spacing_mm=SPACING, spheres=BALLS, **changes)


def ct(**changes: Any) -> Make:
    return lambda patient: chest(patient, **changes)


def cxr(**changes: Any) -> Make:
    return lambda patient: [radiograph(patient=patient, **changes)]


def edited(edit: Callable[[Made], Made | None], **changes: Any) -> Make:
    def make(patient: int) -> Made:
        slices = chest(patient, **changes)
        return edit(slices) or slices

    return make


def of_series(slices: Made, number: int, **changes: Any) -> Made:
    """Move slices to a series of their own."""
    for k, ds in enumerate(slices):
        ds.SeriesInstanceUID, ds.SeriesNumber = uid(int(ds.PatientID[1:]), 1, number), number
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid(int(ds.PatientID[1:]), 1, number, k + 1)
        for keyword, value in changes.items():
            setattr(ds, keyword, value)
    return slices


def moved(slices: Made, place: Callable[[int, list[float]], list[float]]) -> None:
    for k, ds in enumerate(slices):
        ds.ImagePositionPatient = place(k, [float(v) for v in ds.ImagePositionPatient])


def shifted_copy(slices: Made) -> Made:
    copy = of_series(chest(int(slices[0].PatientID[1:]))[10:12], 1)
    for n, ds in enumerate(copy):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid(int(ds.PatientID[1:]), 1, 1, 90 + n)
        ds.PixelData = ds.PixelData[::-1]
    return [*slices, *copy]


def scout(slices: Made, **changes: Any) -> Made:
    """Return two localizers of another series."""
    return of_series(slices[:2], 7, ImageOrientationPatient=[1, 0, 0, 0, 0, -1], **changes)


LOCALIZER = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

REFUSED: dict[str, tuple[Make, Reason]] = {
    "localizers alone": (edited(lambda s: scout(s, ImageType=LOCALIZER)), Reason.LOCALIZER_ONLY),
    "mip": (ct(ImageType=["DERIVED", "SECONDARY", "MIP"]), Reason.DERIVED_ONLY),
    "reformation that calls itself original": (ct(ImageType=["ORIGINAL", "PRIMARY", "MPR"]), Reason.DERIVED_ONLY),
    "slices too far apart": (lambda p: ct_series(patient=p, slices=12, size=16, spacing_mm=(7, 8, 8)),
                             Reason.SLICES_TOO_THICK),
    "few slices": (edited(lambda s: s[:5]), Reason.TOO_FEW_SLICES),
    "coronal": (ct(ImageOrientationPatient=[1, 0, 0, 0, 0, -1]), Reason.NOT_AXIAL),
    "three slices missing": (edited(lambda s: s[:9] + s[12:]), Reason.MISSING_SLICES),
    "distances without any rule": (edited(lambda s: moved(s, lambda k, p: [p[0], p[1], 4.0 * k + 0.8 * (k % 3)])),
                                   Reason.VARIABLE_GEOMETRY),
    "another slice at the same place": (edited(shifted_copy), Reason.CONFLICTING_DUPLICATES),
    "no intercept": (ct(RescaleIntercept=None), Reason.INVALID_RESCALE),
    "values that are no hu": (ct(RescaleType="OD"), Reason.INVALID_RESCALE),
    "no lung": (lambda p: ct_series(patient=p, slices=12, size=128, spacing_mm=SPACING, spheres=[]), Reason.NO_LUNG_FOUND),
    "frames without positions": (lambda p: [_without_positions(enhanced_ct(chest(p)))], Reason.INVALID_GEOMETRY),
    "animal": (cxr(PatientSpeciesDescription="Canis lupus familiaris"), Reason.IMAGE_OF_AN_ANIMAL),
    "lateral": (cxr(ViewPosition="LL"), Reason.LATERAL_VIEW),
    "for processing": (cxr(SOPClassUID=DX_FOR_PROCESSING, PresentationIntentType="FOR PROCESSING"), Reason.FOR_PROCESSING),
    "photographed film": (cxr(SOPClassUID=SecondaryCaptureImageStorage, Modality="CR", ConversionType="DF"),
                          Reason.SECONDARY_CAPTURE),
    "hand": (cxr(BodyPartExamined="HAND"), Reason.NOT_CHEST),
    "on its side": (cxr(PatientOrientation=["F", "R"]), Reason.ROTATED_IMAGE),
    "tomosynthesis": (cxr(NumberOfFrames=3, PixelData=radiograph().PixelData * 3), Reason.MULTIFRAME),
    "palette colour": (cxr(PhotometricInterpretation="PALETTE COLOR"), Reason.INVALID_PIXEL_DESCRIPTION),
    "blank": (cxr(image=np.full((256, 256), 0.5)), Reason.BLANK_IMAGE),
}


def _without_positions(made: FileDataset) -> FileDataset:
    for groups in made.PerFrameFunctionalGroupsSequence:
        del groups.PlanePositionSequence
    return made


@pytest.fixture(scope="module")
def studies(service: Hospital) -> dict[str, tuple[str, Made]]:
    """Send the studies of all tables, one after the other without a wait; return UID and images of each by its name."""
    found = {}
    for name, (make, _) in (REFUSED | READ | SEEN).items():
        patient = next(numbers)
        found[name] = uid(patient, 1), make(patient)
        service.send(*found[name][1])
    return found


def sent(service: Hospital, make: Make) -> str:
    """Send a study of a patient of its own; return its UID."""
    patient = next(numbers)
    service.send(*make(patient))
    return uid(patient, 1)


def report_of(service: Hospital, study: str) -> Dataset:
    return next(ds for ds in reversed(service.in_pacs(study)) if ds.Modality == "SR")


def page(service: Hospital, path: str) -> str:
    answer = httpx.get(f"http://{HOST}:{service.app.web_port}{path}", timeout=20)
    assert answer.status_code == 200
    return html.unescape(answer.text)


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_says_the_same_everywhere(service: Hospital, studies: dict[str, tuple[str, Made]], name: str) -> None:
    reason, (study, _) = REFUSED[name][1], studies[name]
    ended = service.delivered(study)
    assert (ended.state, ended.state_reason) == (StudyState.NOT_ASSESSED, reason), ended.state_detail
    report = report_of(service, study)
    assert {str(reason), reason.sentence} <= set(gate.texts(report)) and gate.never_normal(report) == []
    assert ended.state_detail == "" or ended.state_detail in gate.texts(report)
    assert any(line.startswith(f"not_assessed: {reason}: {reason.sentence}") for line in service.trace(study))
    for path in (f"/studies/{study}", "/?tab=all"):
        assert reason.sentence in page(service, path)
    listed = httpx.get(f"http://{HOST}:{service.app.web_port}/api/studies/{study}", timeout=20).json()
    assert str(reason) in str(listed)


def grid_of(service: Hospital, study: str, sources: Made) -> list[str]:
    """Compare the SEG in the PACS with the slices it was drawn on."""
    [seg] = [ds for ds in service.in_pacs(study) if ds.Modality == "SEG"]
    return gate.on_source_grid(seg, [one for source in sources for one in gate.slices_of(source)])


def rescaled(slices: Made) -> None:
    stored = np.frombuffer(slices[12].PixelData, "<u2").astype(int)
    slices[12].RescaleSlope, slices[12].RescaleIntercept = 0.5, -1124
    slices[12].PixelData = ((stored - 1024 + 1124) * 2).astype("<u2").tobytes()


def padded(slices: Made) -> None:
    for ds in slices:
        values = np.frombuffer(ds.PixelData, "<u2").copy().reshape(128, 128)
        values[:2] = 63536
        ds.PixelData = values.tobytes()
        ds.add_new("PixelPaddingValue", "US", 63536)


def thinner_below(slices: Made) -> None:
    """Let the lower half lie 2.5 mm apart."""
    moved(slices, lambda k, p: [p[0], p[1], p[2] if k >= 12 else 60 - (12 - k) * 2.5])


LEFT_OUT = ("a scout inside the series", "the same slice twice")  # the last image
LUNG_ML = 4 / 3 * np.pi * 4.5**3

READ: dict[str, tuple[Make, str]] = {
    "plain": (ct(), ""),
    "enhanced multi-frame": (lambda p: [enhanced_ct(chest(p))], ""),
    "enhanced multi-frame with everything per frame": (
        lambda p: [enhanced_ct(chest(p)[::-1], ["PlaneOrientationSequence", "PixelValueTransformationSequence"])], ""),
    "instance numbers in another order": (edited(lambda s: [setattr(d, "InstanceNumber", 99 - k) for k, d in enumerate(s)]
                                                 and None), ""),
    "slice thickness and spacing that lie": (ct(SliceThickness=1, SpacingBetweenSlices=-40), ""),
    "a scout inside the series": (edited(lambda s: s[:-1] + _scout_within(s[-1:])), "1 localizer or derived"),
    "one slice missing": (edited(lambda s: s[:3] + s[4:]), "one slice is missing"),
    "the same slice twice": (edited(lambda s: s + _again(s[5])), "repeated slices with the same pixels"),
    "tilted gantry": (edited(lambda s: moved(s, lambda k, p: [p[0], p[1] + 0.2 * 5 * k, p[2]]), GantryDetectorTilt=11),
                      "sheared (tilted gantry)"),
    "oblique": (ct(ImageOrientationPatient=[0.984808, 0.173648, 0, -0.173648, 0.984808, 0]), ""),
    "two slice distances": (edited(thinner_below), "slice distances vary from 2.50 to 5.00 mm"),
    "rescale of one slice differs": (edited(rescaled), ""),
    "padding outside of the circle": (edited(padded), ""),
    "contrast medium": (ct(ContrastBolusAgent="Iopamidol"), "contrast medium was given"),
    "no contrast medium": (ct(ContrastBolusAgent="NONE"), ""),
    "expiration": (ct(SeriesDescription="Thorax exsp. 1.0"), "labelled as expiration"),
    "prone": (ct(PatientPosition="HFP"), "the patient was prone"),
    "ct of a child": (ct(PatientAge="007Y"), "under 18"),
    "lossy": (ct(LossyImageCompression="01"), "lossy compressed"),
    "lungs cut at the top": (edited(lambda s: s[:14]), "incomplete coverage"),
}


def _scout_within(slices: Made) -> Made:
    for ds in slices:
        ds.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    return slices


def _again(ds: FileDataset) -> Made:
    copy = FileDataset("", Dataset(ds), file_meta=ds.file_meta, preamble=bytes(128))
    again = chest(int(ds.PatientID[1:]))[5]
    again.SOPInstanceUID = again.file_meta.MediaStorageSOPInstanceUID = f"{copy.SOPInstanceUID}.9"
    return [again]


@pytest.mark.parametrize("name", READ)
def test_a_ct_that_can_be_read_is_read_on_its_own_grid_and_says_what_limits_it(
        service: Hospital, studies: dict[str, tuple[str, Made]], name: str) -> None:
    limit, (study, sources) = READ[name][1], studies[name]
    ended = service.delivered(study)
    assert ended.state == StudyState.ASSESSED, (ended.state_reason, ended.state_detail)
    told = gate.texts(report_of(service, study))
    assert any(limit in text for text in told)
    if not limit:
        assert not any(word in text for text in told for word in ("sheared", "missing", "vary", "contrast", "incomplete"))
    assert grid_of(service, study, sources[:-1] if name in LEFT_OUT else sources) == []
    volume = {m["name"]: m["value"] for m in ended.summary["measurements"]}
    whole_ml = 2 * LUNG_ML * (0.75 if "two slice distances" in name else 1)
    assert volume["lung volume"] == pytest.approx(whole_ml, rel=0.06) or "cut" in name
    assert (volume.get("lung involved") is None) is (limit == "incomplete coverage")
    sides = {f["laterality"] for f in ended.summary["findings"] if f["presence"] == "present"}
    assert sides <= {"Right", "Right, Left"} and sides, "the dense ball lies on the patient's right"


def test_of_several_series_the_thin_one_is_read_and_the_others_are_named(service: Hospital) -> None:
    def make(patient: int) -> Made:
        thin = of_series(ct_series(patient=patient, slices=48, size=128, spacing_mm=(2.5, 1.5, 1.5), spheres=BALLS), 3)
        return [*chest(patient), *thin, *of_series(chest(patient), 4, ImageType=["DERIVED", "SECONDARY", "MPR"]),
                *scout(chest(patient), ImageType=LOCALIZER)]

    study = sent(service, make)
    assert service.delivered(study).state == StudyState.ASSESSED
    told = gate.texts(report_of(service, study))
    assert any("48 axial slices, 2.5 mm apart" in text for text in told)
    assert "Not used: 1 x derived_only, 1 x localizer_only, 1 x not_preferred" in told


def test_of_a_dynamic_series_one_acquisition_is_read(service: Hospital) -> None:
    def make(patient: int) -> Made:
        second = chest(patient, AcquisitionNumber=2)[:20]
        for ds in second:
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{ds.SOPInstanceUID}.2"
            ds.PixelData = ds.PixelData[::-1]
        return [*chest(patient), *second]

    study = sent(service, make)
    assert service.delivered(study).state == StudyState.ASSESSED
    assert any("24 slices of one of 2 acquisitions" in text for text in gate.texts(report_of(service, study)))


FAINT = ribs(256) * 0.4

SEEN: dict[str, tuple[Make, str]] = {  # no name twice in the three tables
    "dx": (cxr(), ""),
    "cr": (cxr(sop_class="CR"), ""),
    "monochrome1": (cxr(image=1 - ribs(256), PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE"), ""),
    "monochrome1 whose shape contradicts it": (
        cxr(image=1 - ribs(256), PhotometricInterpretation="MONOCHROME1"), "contradicts MONOCHROME1, which was followed"),
    "sigmoid": (cxr(VOILUTFunction="SIGMOID"), ""),
    "linear exact": (cxr(VOILUTFunction="LINEAR_EXACT"), ""),
    "absurd window": (cxr(WindowCenter=90000, WindowWidth=10), "window unusable: percentiles used"),
    "overlay in the high bits": (lambda p: [_overlaid(radiograph(patient=p))], ""),
    "signed": (lambda p: [_signed(radiograph(patient=p))], ""),
    "rgb that is grey": (lambda p: [_coloured(radiograph(patient=p))], ""),
    "no spacing": (cxr(ImagerPixelSpacing=None), "spacing unknown"),
    "view not stated": (cxr(ViewPosition="", SeriesDescription="", StudyDescription="Chest"), "the view is not stated"),
    "burned-in text": (cxr(BurnedInAnnotation="YES"), ""),
    "ap": (cxr(ViewPosition="AP"), "heart size is not judged"),
    "flipped without orientation": (cxr(PatientOrientation=None, FieldOfViewHorizontalFlip="YES"), "contradicts itself"),
    "mirrored": (cxr(PatientOrientation=["R", "F"]), "mirrored"),
    "child": (cxr(PatientAge="009Y"), "under 18"),
}


def _overlaid(ds: FileDataset) -> FileDataset:
    ds.PixelData = (np.frombuffer(ds.PixelData, "<u2") | 0x9000).tobytes()
    return ds


def _signed(ds: FileDataset) -> FileDataset:
    values = np.frombuffer(ds.PixelData, "<u2").astype(np.int16) - 2048
    ds.PixelRepresentation, ds.PixelData, ds.WindowCenter = 1, (values & 0x0FFF).astype("<u2").tobytes(), 0
    return ds


def _coloured(ds: FileDataset) -> FileDataset:
    grey = (np.frombuffer(ds.PixelData, "<u2") >> 4).astype(np.uint8)
    ds.SamplesPerPixel, ds.PlanarConfiguration, ds.PhotometricInterpretation = 3, 0, "RGB"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.PixelData, ds.WindowCenter, ds.WindowWidth = np.repeat(grey, 3).tobytes(), 128, 256
    return ds


@pytest.mark.parametrize("name", SEEN)
def test_a_radiograph_that_can_be_read_gives_the_same_score_however_it_is_stored(
        service: Hospital, studies: dict[str, tuple[str, Made]], name: str) -> None:
    limit, (study, _) = SEEN[name][1], studies[name]
    ended = service.delivered(study)
    assert ended.state == StudyState.ASSESSED, (ended.state_reason, ended.state_detail)
    told = gate.texts(report_of(service, study))
    assert any(limit in text for text in told)
    scores = {f["name"]: f["probability"] for f in ended.summary["findings"] if f["bundle"] == "tiny-cxr"}
    assert scores["pneumonia"] == pytest.approx(ribs(256).mean(), abs=0.1 if name in ("sigmoid", "absurd window") else 0.03)
    if "flipped" in name:
        assert not any(f["place"] for f in ended.summary["findings"])


def test_a_study_of_several_radiographs_has_the_highest_score_and_tells_each(service: Hospital) -> None:
    def make(patient: int) -> Made:
        bright = np.clip(ribs(256) + 0.2, 0, 1)
        lateral = radiograph(patient=patient, instance=4, ViewPosition="LL")
        return [radiograph(patient=patient), radiograph(patient=patient, instance=2, image=bright),
                radiograph(patient=patient, instance=3), lateral]

    study = sent(service, make)
    ended = service.delivered(study)
    told = gate.texts(report_of(service, study))
    assert "Limitation: the same pixels came twice: image 3 is image 1 again" in told
    assert any(text.startswith("Score of each image: series 1 image 1: ") and "image 2" in text and "image 3" not in text
               for text in told)
    highest = next(f for f in ended.summary["findings"] if f["name"] == "pneumonia")["probability"]
    assert highest == pytest.approx(np.clip(ribs(256) + 0.2, 0, 1).mean(), abs=0.01)
    assert "Not used: 1 x lateral_view" in told


def test_a_region_within_a_shutter_is_told_in_pixels_of_the_source(service: Hospital) -> None:
    spot = FAINT.copy()
    spot[170:186, 60:84] = 1.0
    edges = {"ShutterShape": "RECTANGULAR", "ShutterLeftVerticalEdge": 31, "ShutterRightVerticalEdge": 226,
             "ShutterUpperHorizontalEdge": 41, "ShutterLowerHorizontalEdge": 256}
    study = sent(service, cxr(image=spot, **edges))
    assert service.delivered(study).state == StudyState.ASSESSED
    found = [i for g in gate.groups(report_of(service, study)) for i in g.ContentSequence if i.ValueType == "SCOORD"]
    columns, rows = np.array(found[-1].GraphicData, float).reshape(-1, 2).T
    assert (columns.min(), columns.max()) == pytest.approx((60.5, 83.5), abs=3)
    assert (rows.min(), rows.max()) == pytest.approx((170.5, 185.5), abs=3)


def test_species_may_stand_in_a_code_alone(service: Hospital) -> None:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "448771007", "SCT", "Canis lupus subspecies familiaris"
    study = sent(service, cxr(PatientSpeciesCodeSequence=Sequence([code])))
    assert service.delivered(study).state_reason == Reason.IMAGE_OF_AN_ANIMAL
    code.CodeValue, code.CodeMeaning = "337915000", "homo sapiens"
    study = sent(service, cxr(PatientSpeciesCodeSequence=Sequence([code])))
    assert service.delivered(study).state == StudyState.ASSESSED


def test_the_folder_of_results_holds_nothing_that_the_pacs_has_not(service: Hospital, tmp_path: Path) -> None:
    study = sent(service, cxr())
    service.delivered(study)
    assert {o.sop_instance_uid for o in service.objects(study)} == {ds.SOPInstanceUID for ds in service.in_pacs(study)}
