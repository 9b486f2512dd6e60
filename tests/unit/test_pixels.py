"""Stored values out of every transfer syntax that is read, and refusals that name what is wrong."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from service.errors import Reason, UnusableStudy
from service.prepare.pixels import MAX_PIXELS, TRANSFER_SYNTAXES, decode, read_all, without_pixels
from tests import builders
from tests.builders import radiograph

DCMTK = Path("/usr/bin")
JPEG_LOSSLESS_OF = ("+e1",), ("+el", "+sv", "1"), ("+el", "+sv", "6")


def image(bits: int = 12, signed: bool = False, samples: int = 1, planar: int = 0) -> tuple[FileDataset, np.ndarray]:
    """Return an uncompressed data set of 50 x 40 pixels that uses the whole range, and its true values."""
    size, kind = (1 if bits <= 8 else 2), ("i" if signed else "u")
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    shape = (50, 40) if samples == 1 else (50, 40, samples)
    truth = np.random.default_rng(bits).integers(low, high, shape).astype(f"{kind}{size}")
    truth.flat[:2] = low, high - 1
    ds = radiograph()
    ds.Rows, ds.Columns, ds.SamplesPerPixel = 50, 40, samples
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8 * size, bits, bits - 1, int(signed)
    if samples == 3:
        ds.PhotometricInterpretation, ds.PlanarConfiguration = "RGB", planar
    ds.PixelData = (np.moveaxis(truth, -1, 0) if planar else truth).astype(f"<{kind}{size}").tobytes()
    return ds, truth


def compressed(ds: FileDataset, syntax: str, codestream: bytes) -> FileDataset:
    ds.file_meta.TransferSyntaxUID = syntax
    ds.PixelData = encapsulate([codestream])
    return ds


def jpeg_2000(truth: np.ndarray, bits: int) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(truth, level=0, reversible=True, codecformat="j2k", bitspersample=bits))


@pytest.mark.parametrize("bits, signed", [(8, False), (10, False), (12, False), (12, True), (16, False), (16, True)])
@pytest.mark.parametrize("implicit", [False, True])
def test_uncompressed_values_are_as_stored(bits: int, signed: bool, implicit: bool, tmp_path: Path) -> None:
    ds, truth = image(bits, signed)
    if implicit:
        ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    ds.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    values = decode(tmp_path / "a.dcm")
    assert values.dtype == truth.dtype and np.array_equal(values, truth)


@pytest.mark.parametrize("signed", [False, True])
def test_bits_above_bits_stored_are_no_part_of_the_value(signed: bool) -> None:
    ds, truth = image(12, signed)
    overlay = (np.frombuffer(ds.PixelData, "<u2") & 0x0FFF) | 0x6000
    ds.PixelData = overlay.astype("<u2").tobytes()
    assert np.array_equal(decode(ds), truth)


@pytest.mark.parametrize("planar", [0, 1])
def test_colour_planes_end_as_the_last_axis(planar: int) -> None:
    ds, truth = image(8, samples=3, planar=planar)
    assert np.array_equal(decode(ds), truth)


def test_each_frame_of_several_is_reached() -> None:
    ds, truth = image(12)
    ds.NumberOfFrames, ds.PixelData = 3, np.stack([truth, truth + 0, truth[::-1]]).astype("<u2").tobytes()
    assert np.array_equal(decode(ds, frame=2), truth[::-1])
    with pytest.raises(ValueError, match="frame 3 of 3"):
        decode(ds, frame=3)


@pytest.mark.parametrize("bits, signed", [(8, False), (12, False), (16, False), (16, True)])
@pytest.mark.parametrize("options", JPEG_LOSSLESS_OF)
def test_jpeg_lossless_of_dcmtk_is_exact(bits: int, signed: bool, options: tuple[str, ...], tmp_path: Path) -> None:
    ds, truth = image(bits, signed)
    assert np.array_equal(decode(through(ds, tmp_path, "dcmcjpeg", *options)), truth)


@pytest.mark.parametrize("bits, signed", [(8, False), (12, False), (16, False), (16, True)])
def test_jpeg_ls_of_dcmtk_is_exact(bits: int, signed: bool, tmp_path: Path) -> None:
    ds, truth = image(bits, signed)
    assert np.array_equal(decode(through(ds, tmp_path, "dcmcjpls")), truth)


@pytest.mark.parametrize("bits, signed", [(8, False), (12, False), (12, True), (16, False), (16, True)])
def test_rle_of_dcmtk_is_exact(bits: int, signed: bool, tmp_path: Path) -> None:
    ds, truth = image(bits, signed)
    assert np.array_equal(decode(through(ds, tmp_path, "dcmcrle")), truth)


def test_rle_of_colour_is_exact(tmp_path: Path) -> None:
    ds, truth = image(8, samples=3)
    assert np.array_equal(decode(through(ds, tmp_path, "dcmcrle")), truth)


@pytest.mark.parametrize("bits, signed", [(8, False), (12, False), (16, False), (16, True)])
def test_jpeg_2000_is_exact(bits: int, signed: bool) -> None:
    ds, truth = image(bits, signed)
    assert np.array_equal(decode(compressed(ds, JPEG2000Lossless, jpeg_2000(truth, bits))), truth)


def test_jpeg_2000_in_a_jp2_box_and_in_colour_is_exact() -> None:
    ds, truth = image(8, samples=3)
    boxed = bytes(imagecodecs.jpeg2k_encode(truth, level=0, reversible=True, codecformat="jp2"))
    ds.PhotometricInterpretation = "YBR_RCT"
    assert np.array_equal(decode(compressed(ds, JPEG2000Lossless, boxed)), truth)


def test_near_lossless_jpeg_ls_stays_within_its_error() -> None:
    ds, truth = image(12)
    values = decode(compressed(ds, JPEGLSNearLossless, bytes(imagecodecs.jpegls_encode(truth, level=3))))
    assert np.abs(values.astype(int) - truth.astype(int)).max() <= 3


@pytest.mark.parametrize("bits, options, syntax", [(8, "+eb", JPEGBaseline8Bit), (12, "+ee", JPEGExtended12Bit)])
def test_lossy_jpeg_of_dcmtk_is_near(bits: int, options: str, syntax: str, tmp_path: Path) -> None:
    ds, _ = image(bits)
    y, x = np.mgrid[0:50, 0:40]
    smooth = ((y * 2 + x) / 137 * (2**bits - 1)).astype(f"u{1 if bits == 8 else 2}")
    ds.PixelData = smooth.tobytes()
    made = through(ds, tmp_path, "dcmcjpeg", options, "+q", "98", "+Wm")
    assert made.file_meta.TransferSyntaxUID == syntax
    assert np.abs(decode(made).astype(int) - smooth.astype(int)).max() < 0.02 * 2**bits


def test_colour_jpeg_keeps_the_components_that_it_stores() -> None:
    ds, _ = image(8, samples=3)
    y, x = np.mgrid[0:50, 0:40]
    rgb = np.stack([4 * y, 5 * x, 100 + 0 * x], axis=-1).astype(np.uint8)
    stream = bytes(imagecodecs.jpeg8_encode(rgb, level=98, colorspace="RGB", outcolorspace="YCBCR"))
    ds.PhotometricInterpretation = "YBR_FULL_422"
    luminance = rgb @ [0.299, 0.587, 0.114]
    assert np.abs(decode(compressed(ds, JPEGBaseline8Bit, stream))[..., 0] - luminance).max() < 6


def test_fragments_of_a_frame_are_joined() -> None:
    ds, truth = image(12)
    ds.file_meta.TransferSyntaxUID = JPEGLSLossless
    ds.PixelData = encapsulate([bytes(imagecodecs.jpegls_encode(truth))], fragments_per_frame=3)
    assert np.array_equal(decode(ds), truth)


STREAMS: dict[str, Callable[[np.ndarray], bytes]] = {
    JPEGLosslessSV1: lambda a: bytes(imagecodecs.jpeg8_encode(a, lossless=True, bitspersample=12)),
    JPEGLSLossless: lambda a: bytes(imagecodecs.jpegls_encode(a)),
    JPEG2000Lossless: lambda a: jpeg_2000(a, 12),
    RLELossless: lambda a: rle(a),
}


def rle(values: np.ndarray) -> bytes:
    planes = [bytes(imagecodecs.packbits_encode((values >> shift & 255).astype(np.uint8).tobytes())) for shift in (8, 0)]
    planes = [p + b"\x00" * (len(p) % 2) for p in planes]
    header = np.array([2, 64, 64 + len(planes[0])] + [0] * 13, "<u4").tobytes()
    return header + b"".join(planes)


@pytest.mark.parametrize("syntax", STREAMS)
def test_truncated_codestream_is_refused(syntax: str) -> None:
    ds, truth = image(12)
    stream = STREAMS[syntax](truth)
    assert np.array_equal(decode(compressed(ds, syntax, stream)), truth)
    for length in (2, 20, 60, len(stream) // 2, len(stream) - 40):
        assert refusal(compressed(ds, syntax, stream[:length])) is Reason.UNREADABLE_PIXELS, length


@pytest.mark.parametrize("syntax", STREAMS)
def test_noise_instead_of_a_codestream_is_refused(syntax: str) -> None:
    ds, truth = image(12)
    noise = np.random.default_rng(1).bytes(2000)
    for stream in (noise, b"\x00" * 500, STREAMS[syntax](truth)[:30] + noise, b"\xff\xd8\xff\xd9"):
        assert refusal(compressed(ds, syntax, stream)) is Reason.UNREADABLE_PIXELS


@pytest.mark.parametrize("syntax", STREAMS)
def test_codestream_of_another_size_is_refused(syntax: str) -> None:
    ds, truth = image(12)
    assert refusal(compressed(ds, syntax, STREAMS[syntax](truth.T.copy()[:, :48]))) is Reason.UNREADABLE_PIXELS


def test_codestream_that_announces_a_huge_image_is_refused_before_it_is_decoded() -> None:
    ds, truth = image(12)
    stream = bytearray(jpeg_2000(truth, 12))
    stream[8:16] = (60_000).to_bytes(4, "big") * 2
    with pytest.raises(UnusableStudy, match="60000 x 60000 x 1, the data set 50 x 40 x 1"):
        decode(compressed(ds, JPEG2000Lossless, bytes(stream)))


def test_rle_segment_that_unpacks_to_too_much_is_refused() -> None:
    ds, _ = image(12)
    bomb = rle(np.zeros((500, 400), np.uint16))
    assert refusal(compressed(ds, RLELossless, bomb)) is Reason.UNREADABLE_PIXELS


def test_codestream_of_more_bits_than_allocated_is_refused() -> None:
    ds, _ = image(8)
    _, wide = image(12)
    assert refusal(compressed(ds, JPEGLSLossless, STREAMS[JPEGLSLossless](wide))) is Reason.UNREADABLE_PIXELS


@pytest.mark.parametrize("length", [0, 100, 3998, 4002, 8000])
def test_pixel_data_of_another_length_is_refused(length: int) -> None:
    ds, _ = image(12)
    ds.PixelData = bytes(length)
    assert refusal(ds) is Reason.UNREADABLE_PIXELS


def test_odd_length_may_be_padded_to_even() -> None:
    ds, truth = image(8)
    ds.Rows, ds.Columns, ds.PixelData = 3, 5, truth[:3, :5].tobytes() + b"\x00"
    assert np.array_equal(decode(ds), truth[:3, :5])


@pytest.mark.parametrize("changes, words", [
    ({"Rows": 0}, "Rows is 0; accepted: 1 to 65535"),
    ({"Rows": None}, "Rows is absent"),
    ({"Rows": 65535, "Columns": 65535}, f"Rows x Columns is 65535 x 65535; accepted: at most {MAX_PIXELS}"),
    ({"BitsAllocated": 32}, "BitsAllocated is 32; accepted: 8 or 16"),
    ({"BitsAllocated": 1}, "BitsAllocated is 1"),
    ({"BitsStored": 17}, "BitsStored is 17; accepted: 1 to 16"),
    ({"BitsStored": 0}, "BitsStored is 0"),
    ({"HighBit": 15}, "HighBit is 15; accepted: 11"),
    ({"SamplesPerPixel": 4}, "SamplesPerPixel is 4; accepted: 1 or 3"),
    ({"PixelRepresentation": 2}, "PixelRepresentation is 2; accepted: 0 or 1"),
    ({"PixelRepresentation": None}, "PixelRepresentation is absent"),
    ({"NumberOfFrames": 1_000_000}, "NumberOfFrames is '?1000000"),
    ({"NumberOfFrames": 0}, "NumberOfFrames is '?0"),
    ({"SamplesPerPixel": 3}, "PlanarConfiguration is absent"),
])
def test_contradicting_description_is_refused_by_name(changes: dict[str, Any], words: str) -> None:
    ds, _ = image(12)
    for keyword, value in changes.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    with pytest.raises(UnusableStudy, match=words) as caught:
        decode(ds)
    assert caught.value.reason is Reason.INVALID_PIXEL_DESCRIPTION


def test_absent_pixel_data_and_other_syntaxes_are_refused() -> None:
    ds, _ = image(12)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    assert refusal(ds) is Reason.UNREADABLE_PIXELS and DeflatedExplicitVRLittleEndian not in TRANSFER_SYNTAXES
    ds, _ = image(12)
    del ds.PixelData
    assert refusal(ds) is Reason.UNREADABLE_PIXELS


def test_file_that_is_no_dicom_is_refused_and_a_missing_one_is_an_os_error(tmp_path: Path) -> None:
    ds, _ = image(12)
    ds.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    whole = (tmp_path / "a.dcm").read_bytes()
    for content in (b"", b"DICM", np.random.default_rng(2).bytes(5000), whole[:300], whole[:-500]):
        (tmp_path / "b.dcm").write_bytes(content)
        with pytest.raises(UnusableStudy):
            decode(tmp_path / "b.dcm")
    with pytest.raises(FileNotFoundError):
        decode(tmp_path / "c.dcm")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("syntax", [*STREAMS, ExplicitVRLittleEndian])
def test_damaged_file_is_read_or_refused_and_nothing_else(syntax: str, tmp_path: Path) -> None:
    ds, truth = image(12)
    if syntax in STREAMS:
        compressed(ds, syntax, STREAMS[syntax](truth))
    ds.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    whole = np.frombuffer((tmp_path / "a.dcm").read_bytes(), np.uint8)
    random, outcomes = np.random.default_rng(3), set()
    for _ in range(150):
        content = whole.copy()
        for place in random.integers(132, min(len(whole), 2200), random.integers(1, 5)):
            content[place] = random.integers(256)
        (tmp_path / "b.dcm").write_bytes(content[:random.integers(200, len(whole))] if random.random() < 0.2 else content)
        try:
            outcomes.add(decode(tmp_path / "b.dcm").ndim)
        except UnusableStudy as error:
            outcomes.add(error.reason)
    assert {Reason.INVALID_PIXEL_DESCRIPTION, Reason.UNREADABLE_PIXELS} <= outcomes


def refusal(ds: FileDataset) -> Reason:
    with pytest.raises(UnusableStudy) as caught:
        decode(ds)
    return caught.value.reason


def through(ds: FileDataset, folder: Path, tool: str, *options: str) -> FileDataset:
    """Let DCMTK compress a data set."""
    if not (DCMTK / tool).exists():
        pytest.skip(f"{tool} of DCMTK is not installed")
    ds.save_as(folder / "in.dcm", enforce_file_format=True)
    subprocess.run([DCMTK / tool, *options, folder / "in.dcm", folder / "out.dcm"], check=True, capture_output=True)
    return dcmread(folder / "out.dcm")


def test_pixels_and_what_lies_behind_them_are_taken_out_of_a_data_set() -> None:
    dataset = Dataset()
    dataset.PatientID, dataset.Rows = "P1", 4
    dataset.FloatPixelData = b"\0" * 8
    dataset.PixelData = b"\0" * 4
    dataset.DataSetTrailingPadding = b"\0" * 4
    assert [e.keyword for e in without_pixels(dataset)] == ["PatientID", "Rows"]


def test_every_element_is_read_and_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = builders.write([builders.ct_series(slices=1, size=16)[0]], tmp_path)[0]
    assert read_all(path) == dcmread(path)
    (tmp_path / "x").write_bytes(b"not DICOM")
    with pytest.raises(UnusableStudy, match="the file is not readable DICOM"):
        read_all(tmp_path / "x")
