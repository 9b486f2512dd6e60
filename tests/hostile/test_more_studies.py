"""More of what studies should not hold, all at once against the whole service: each ends as it should, none as an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import httpx
import pytest
from pydicom import config
from pydicom.dataset import Dataset, FileDataset

from service.domain.job import StudyState
from service.errors import Reason
from tests.builders import ct_series, radiograph, uid
from tests.hospital import TINY, Hospital, hospital, tiny_models
from tests.peers import HOST, Raw, store

pytestmark = pytest.mark.filterwarnings("ignore:::pydicom")  # as service.logs does: pydicom tells of each odd value
Make = Callable[[int], list[FileDataset]]
PIXELS, UNREADABLE, MULTIFRAME = Reason.INVALID_PIXEL_DESCRIPTION, Reason.UNREADABLE_PIXELS, Reason.MULTIFRAME
GEOMETRY, RESCALE, BLANK = Reason.INVALID_GEOMETRY, Reason.INVALID_RESCALE, Reason.BLANK_IMAGE


def cxr(**changes: Any) -> Make:
    return lambda patient: [radiograph(patient=patient, **changes)]


def without(*keywords: str) -> Make:
    def make(patient: int) -> list[FileDataset]:
        made = radiograph(patient=patient)
        for keyword in keywords:
            delattr(made, keyword)
        return [made]

    return make


def with_raw(tag: int, vr: str, value: Any) -> Make:
    def make(patient: int) -> list[FileDataset]:
        made = radiograph(patient=patient)
        made.add_new(tag, vr, value)
        return [made]

    return make


def with_table(keyword: str, descriptor: list[int], data: bytes) -> Make:
    """Return a radiograph with a look-up table whose descriptor and data may disagree (PS3.3 C.11.1, C.11.2)."""
    def make(patient: int) -> list[FileDataset]:
        made, item = radiograph(patient=patient), Dataset()
        item.LUTDescriptor, item.ModalityLUTType = descriptor, "US"
        item.add_new(0x00283006, "OW", data)
        setattr(made, keyword, [item])
        return [made]

    return make


def ct(**changes: Any) -> Make:
    return lambda patient: ct_series(patient=patient, slices=12, **changes)


def ct_each(keyword: str, value: Callable[[int], Any]) -> Make:
    def make(patient: int) -> list[FileDataset]:
        made = ct_series(patient=patient, slices=12)
        for number, ds in enumerate(made):
            setattr(ds, keyword, value(number))
        return made

    return make


REFUSED: dict[str, tuple[Make, Reason]] = {
    "1 bit allocated": (cxr(BitsAllocated=1, BitsStored=1, HighBit=0), PIXELS),
    "32 bits allocated": (cxr(BitsAllocated=32), PIXELS),
    "no bits": (cxr(BitsAllocated=0, BitsStored=0, HighBit=0), PIXELS),
    "bits not said": (without("BitsAllocated", "BitsStored", "HighBit"), PIXELS),
    "no samples": (cxr(SamplesPerPixel=0), PIXELS),
    "65535 samples": (cxr(SamplesPerPixel=65535), PIXELS),
    "colour without an order": (cxr(SamplesPerPixel=3), PIXELS),
    "a representation that is none": (cxr(PixelRepresentation=7), PIXELS),
    "a photometric interpretation that is none": (cxr(PhotometricInterpretation="NONSENSE"), PIXELS),
    "no photometric interpretation": (without("PhotometricInterpretation"), PIXELS),
    "a palette that ends early": (cxr(
        PhotometricInterpretation="PALETTE COLOR", RedPaletteColorLookupTableDescriptor=[0, 0, 65535],
        RedPaletteColorLookupTableData=b"\0\0"), PIXELS),
    "YBR in one sample": (cxr(PhotometricInterpretation="YBR_FULL_422"), PIXELS),
    "-1 frames": (cxr(NumberOfFrames="-1"), PIXELS),
    "no frames": (cxr(NumberOfFrames="0"), PIXELS),
    "frames that are text": (with_raw(0x00280008, "LO", "many"), PIXELS),
    "two frames in the room of one": (cxr(NumberOfFrames="2"), MULTIFRAME),
    "a billion frames": (cxr(NumberOfFrames="1000000000"), MULTIFRAME),
    "no rows": (without("Rows", "Columns"), PIXELS),
    "no pixels": (without("PixelData"), UNREADABLE),
    "three bytes of pixels": (cxr(PixelData=bytes(3)), UNREADABLE),
    "more pixels than rows": (cxr(PixelData=bytes(1_000_000)), UNREADABLE),
    "one pixel": (cxr(Rows=1, Columns=1, PixelData=b"\0\0"), BLANK),
    "radiograph: a slope that is no number": (cxr(RescaleSlope="NaN", RescaleIntercept="0"), RESCALE),
    "radiograph: a slope of zero": (cxr(RescaleSlope="0", RescaleIntercept="0"), RESCALE),
    "radiograph: a slope beyond all numbers": (cxr(RescaleSlope="1e308", RescaleIntercept="1e308"), RESCALE),
    "a modality table that ends early": (with_table("ModalityLUTSequence", [65535, 0, 16], b"\1\0\2\0"), PIXELS),
    "a modality table that is empty": (with_table("ModalityLUTSequence", [0, 0, 0], b""), PIXELS),
    "positions that are no numbers": (ct_each("ImagePositionPatient", lambda n: ["NaN", "0", str(n)]), GEOMETRY),
    "positions of two numbers": (ct_each("ImagePositionPatient", lambda n: [0, n]), GEOMETRY),
    "all at one position": (ct_each("ImagePositionPatient", lambda n: [0, 0, 0]), Reason.CONFLICTING_DUPLICATES),
    "positions beyond all numbers": (
        ct_each("ImagePositionPatient", lambda n: ["1e300", "1e300", f"{n}e300"]), Reason.SLICES_TOO_THICK),
    "an orientation of five numbers": (ct(ImageOrientationPatient=[1, 0, 0, 0, 1]), GEOMETRY),
    "an orientation beyond all numbers": (ct(ImageOrientationPatient=["1e200", "0", "0", "0", "1e200", "0"]), GEOMETRY),
    "a spacing of almost nothing": (ct(PixelSpacing=["1e-30", "1e-30"]), GEOMETRY),
    "a spacing of light years": (ct(PixelSpacing=["1e30", "1e30"]), GEOMETRY),
    "one spacing": (ct(PixelSpacing=["1"]), GEOMETRY),
    "a frame of reference that is a path": (ct(FrameOfReferenceUID="../../etc"), GEOMETRY),
    "a slope beyond all numbers": (ct(RescaleSlope="1e38"), RESCALE),
    "an intercept beyond all numbers": (ct(RescaleIntercept="1e308"), RESCALE),
    "two slopes": (ct(RescaleSlope=["1", "2"]), RESCALE),
    "frames in a single image": (ct(NumberOfFrames="12"), MULTIFRAME),
}

ODD: dict[str, Make] = {
    "a window of nothing": cxr(WindowCenter="0", WindowWidth="0"),
    "a window of less than nothing": cxr(WindowCenter="0", WindowWidth="-1"),
    "a window that is no number": cxr(WindowCenter="NaN", WindowWidth="NaN"),
    "a window beyond all numbers": cxr(WindowCenter="1e308", WindowWidth="1e308"),
    "500 windows": cxr(WindowCenter=["1"] * 500, WindowWidth=["2"] * 3),
    "a window table that ends early": with_table("VOILUTSequence", [65535, 0, 16], b"\1\0\2\0"),
    "a window table of 99 bits": with_table("VOILUTSequence", [2, 0, 99], b"\1\0\2\0"),
    "a window table that begins at the end": with_table("VOILUTSequence", [2, 65535, 16], b"\1\0\2\0"),
    "padding that no pixel can have": with_raw(0x00280120, "SS", -32768),
    "padding that is text": with_raw(0x00280120, "LO", "abc"),
    "a shutter outside": cxr(ShutterShape="RECTANGULAR", ShutterLeftVerticalEdge="-5", ShutterRightVerticalEdge="999999"),
    "an overlay that ends early": with_raw(0x60003000, "OW", bytes(10)),
    "an orientation that is none": cxr(PatientOrientation=["X", "Q", "Z"]),
    "an aspect of nothing": cxr(PixelAspectRatio=["0", "0"]),
    "an age of less than nothing": cxr(PatientAge="-01Y"),
    "a patient without an identity": cxr(PatientID=""),
    "an identity of 60,000 letters": cxr(PatientID="A" * 60_000),
    "a name of 3,000 parts": cxr(PatientName="^" * 3000 + "=" * 30),
    "texts that are templates": cxr(StudyDescription="%s%n{0}${x}{{7*7}}", SeriesDescription="{% raw %}\0\x1b[31m"),
    "200 character sets": cxr(SpecificCharacterSet=["ISO 2022 IR 87"] * 200),
    "a character set that is a codec of ours": cxr(SpecificCharacterSet="unicode_escape"),
    "a modality of 300 letters": cxr(Modality="X" * 300),
    "slices of no thickness": ct(SliceThickness="0"),
    "a thickness that is no number": ct(SliceThickness="NaN"),
    "an instance number of 20 digits": ct(InstanceNumber="99999999999999999999"),
    "50 image types": ct(ImageType=["<script>"] * 50),
    "a kernel of 5,000 letters": ct(ConvolutionKernel=["x" * 5000]),
}


@pytest.fixture(scope="module")
def lenient() -> Iterator[None]:
    """Let pydicom write values that no scanner should send."""
    before = config.settings.writing_validation_mode, config.settings.reading_validation_mode
    config.settings.writing_validation_mode = config.settings.reading_validation_mode = config.IGNORE
    yield
    config.settings.writing_validation_mode, config.settings.reading_validation_mode = before


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, lenient: None) -> Iterator[tuple[Hospital, dict[str, str]]]:
    """Run the whole service and send it everything; yield it and the study of each."""
    folder, numbers = tmp_path_factory.mktemp("more"), count(1)
    made = {name: make for name, (make, _) in REFUSED.items()} | ODD
    with hospital(folder, infer=TINY | {"models_dir": tiny_models(folder / "models")}) as running:
        assert running.app.listener is not None
        studies = {}
        for name, make in made.items():
            patient = next(numbers)
            assert set(store(running.app.listener.port, *map(Raw.of, make(patient)))) == {0}, name
            studies[name] = uid(patient, 1)
        yield running, studies
        running.send(radiograph(patient=900))
        assert running.delivered(uid(900, 1)).state == StudyState.ASSESSED


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_not_assessed_and_says_why(service: tuple[Hospital, dict[str, str]], name: str) -> None:
    running, studies = service
    ended = running.delivered(studies[name])
    assert (ended.state, ended.state_reason) == (StudyState.NOT_ASSESSED, REFUSED[name][1]), ended.state_detail


@pytest.mark.parametrize("name", ODD)
def test_what_is_only_odd_is_assessed_and_shown(service: tuple[Hospital, dict[str, str]], name: str) -> None:
    running, studies = service
    assert running.delivered(studies[name]).state == StudyState.ASSESSED
    page = httpx.get(f"http://{HOST}:{running.app.web_port}/studies/{studies[name]}", timeout=20)
    assert page.status_code == 200
    assert not any(bad in page.text for bad in ("<script>alert", "\x1b", ">49<"))
