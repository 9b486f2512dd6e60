"""Pixels that crash, hang or flood a decoder: the study is not assessed and says why, and the next one is assessed."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from itertools import count

import imagecodecs
import numpy as np
import pytest
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from service.app import App
from service.domain.job import StudyState
from service.errors import Reason
from service.prepare.decoders import Decoders
from tests.builders import ct_series, radiograph, ribs, uid
from tests.hospital import TINY, Hospital, hospital, tiny_models

numbers = count(100)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """Run the whole service, with decoders that do what a codestream says."""
    folder = tmp_path_factory.mktemp("pixels")
    infer = TINY | {"models_dir": tiny_models(folder / "models")}
    decode = {"memory_bytes": 2**27, "max_study_bytes": 200_000_000}
    with hospital(folder, change=with_crashing_decoders, infer=infer, decode=decode) as running:
        yield running


@pytest.fixture
def patient(service: Hospital) -> Iterator[int]:
    """Give the number of a hostile patient; at the end a normal radiograph, compressed, goes through."""
    yield next(numbers)
    good = next(numbers)
    service.send(compressed(radiograph(patient=good)))
    assert service.delivered(uid(good, 1)).state == StudyState.ASSESSED
    assert all(loop.is_alive() for loop in service.app._loops)


def with_crashing_decoders(app: App) -> None:
    """Let a codestream say what its decoder does: the rest is the service as it is."""
    decode = app.settings.decode
    app.decoders = Decoders(app.metrics, 2, 2.0, decode.memory_bytes, program="tests.crashing_decoder")


def compressed(ds: FileDataset, prefix: bytes = b"") -> FileDataset:
    """Return an image in JPEG-LS; prefix: put before the codestream."""
    stored = np.frombuffer(ds.PixelData, "<u2").reshape(ds.Rows, ds.Columns)
    return encoded(ds, JPEGLSLossless, prefix + bytes(imagecodecs.jpegls_encode(stored)))


def encoded(ds: FileDataset, syntax: str, *codestreams: bytes, table: bool = True) -> FileDataset:
    """Return an image with these bytes for its pixels. table: with a basic offset table."""
    ds.file_meta.TransferSyntaxUID = syntax
    ds.PixelData = encapsulate(list(codestreams), has_bot=table)
    return ds


def refused(service: Hospital, study: str, reason: Reason) -> str:
    """Wait until a study is refused for that reason, in the PACS too; return the detail."""
    ended = service.delivered(study)
    assert (ended.state, ended.state_reason) == (StudyState.NOT_ASSESSED, reason), ended.state_detail
    assert [o.kind for o in service.objects(study)] == ["sr"], "the PACS is told, too"
    assert f"not_assessed: {reason.value}" in "\n".join(service.trace(study))
    return ended.state_detail


@pytest.mark.parametrize("deed", [b"DIE ", b"SPIN", b"GROW"], ids=["crash", "hang", "grow"])
@pytest.mark.parametrize("kind", ["ct", "cxr"])
def test_a_decoder_that_fails_takes_only_its_study_with_it(service: Hospital, patient: int, deed: bytes, kind: str) -> None:
    made = ct_series(patient=patient, slices=12) if kind == "ct" else [radiograph(patient=patient)]
    service.send(*(compressed(ds, deed if ds is made[-1] else b"") for ds in made))
    refused(service, uid(patient, 1), Reason.DECODER_FAILED)


def test_a_radiograph_is_read_although_the_decoder_fails_on_another(service: Hospital, patient: int) -> None:
    good, bad = radiograph(patient=patient), radiograph(patient=patient, instance=2)
    service.send(good, compressed(bad, b"DIE "))
    study = service.delivered(uid(patient, 1))
    assert study.state == StudyState.ASSESSED
    assert any("decoder_failed" in note for note in study.summary["limitations"])


def test_a_study_is_given_up_when_decoders_fail_on_one_image_after_another(service: Hospital, patient: int) -> None:
    before = crashed(service)
    images = [compressed(radiograph(patient=patient, instance=n + 1, image=picture(n)), b"DIE ") for n in range(8)]
    service.send(*images)
    refused(service, uid(patient, 1), Reason.DECODER_FAILED)
    failed = crashed(service) - before
    assert failed == 6, "three images, each tried twice"


def crashed(service: Hospital) -> float:
    value = service.app.metrics.registry.get_sample_value("firstlook_decoders_ended_total", {"cause": "crashed"})
    return value or 0.0


def picture(number: int) -> np.ndarray:
    return np.roll(ribs(256), 8 * number, axis=0)


def bomb_2000(side: int) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(np.zeros((side, side), np.uint16), level=0, reversible=True, codecformat="j2k"))


def rle(segments: list[bytes]) -> bytes:
    """Return an RLE frame of these segments (PS3.5 G.5)."""
    starts = [64 + sum(map(len, segments[:n])) for n in range(len(segments))]
    return struct.pack("<16I", len(segments), *starts, *[0] * (15 - len(segments))) + b"".join(segments)


def sized(patient: int, side: int) -> FileDataset:
    """Return a radiograph that says it is that large."""
    ds = radiograph(patient=patient, size=128)
    ds.Rows = ds.Columns = side
    return ds


FINE = np.random.default_rng(2).integers(0, 4096, (128, 128)).astype(np.uint16)
BOMBS: dict[str, Callable[[int], FileDataset]] = {
    "J2K, 64 Mpixel as announced": lambda p: encoded(sized(p, 8192), JPEG2000Lossless, bomb_2000(8192)),
    "J2K, larger than announced": lambda p: encoded(sized(p, 128), JPEG2000Lossless, bomb_2000(4096)),
    "J2K, announced beyond the limit": lambda p: encoded(sized(p, 65535), JPEG2000Lossless, bomb_2000(64)),
    "JPEG-LS, larger than announced": lambda p: encoded(
        sized(p, 128), JPEGLSLossless, bytes(imagecodecs.jpegls_encode(np.zeros((4096, 4096), np.uint16)))),
    "JPEG, larger than announced": lambda p: encoded(sized(p, 128), JPEGLosslessSV1, bytes(
        imagecodecs.ljpeg_encode(np.zeros((2048, 2048), np.uint16), bitspersample=16))),
    "RLE, one run too many": lambda p: encoded(sized(p, 128), RLELossless, rle([b"\x81\0" * 2000, b"\x81\0" * 2000])),
    "RLE, 100 MB of runs": lambda p: encoded(sized(p, 128), RLELossless, rle([b"\x81\0" * 400_000, b"\x81\0" * 400_000])),
    "RLE, segments out of place": lambda p: encoded(
        sized(p, 128), RLELossless, struct.pack("<16I", 2, 64, 0xFFFFFFF0, *[0] * 13) + bytes(100)),
    "two bytes": lambda p: encoded(sized(p, 128), JPEGLSLossless, b"\0\0"),
    "J2K cut off": lambda p: encoded(sized(p, 128), JPEG2000Lossless, half(bytes(imagecodecs.jpeg2k_encode(
        FINE, level=0, reversible=True, codecformat="j2k")))),
    "JPEG-LS cut off": lambda p: encoded(sized(p, 128), JPEGLSLossless, half(bytes(imagecodecs.jpegls_encode(FINE)))),
    "JPEG cut off": lambda p: encoded(
        sized(p, 128), JPEGLosslessSV1, half(bytes(imagecodecs.ljpeg_encode(FINE, bitspersample=16)))),
    "RLE cut off": lambda p: encoded(sized(p, 128), RLELossless, half(rle([b"\x81\0" * 128, b"\x81\0" * 128]))),
    "noise": lambda p: encoded(sized(p, 128), JPEG2000Lossless, np.random.default_rng(1).bytes(5000)),
}


def half(codestream: bytes) -> bytes:
    return codestream[:len(codestream) // 4 * 2]


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_and_broken_codestreams_are_refused(service: Hospital, patient: int, bomb: str) -> None:
    service.send(BOMBS[bomb](patient))
    ended = service.delivered(uid(patient, 1))
    assert ended.state == StudyState.NOT_ASSESSED
    assert ended.state_reason in (Reason.UNREADABLE_PIXELS, Reason.INVALID_PIXEL_DESCRIPTION), ended.state_detail


def test_a_frame_without_an_offset_table_is_read(service: Hospital, patient: int) -> None:
    ds = radiograph(patient=patient)
    stored = np.frombuffer(ds.PixelData, "<u2").reshape(ds.Rows, ds.Columns)
    service.send(encoded(ds, JPEGLSLossless, bytes(imagecodecs.jpegls_encode(stored)), table=False))
    assert service.delivered(uid(patient, 1)).state == StudyState.ASSESSED


def test_a_study_that_is_too_large_when_decoded_is_refused_before(service: Hospital, patient: int) -> None:
    """Two hundred slices of a megabyte each, in a few kilobytes each."""
    flat = bytes(imagecodecs.jpegls_encode(np.zeros((512, 512), np.uint16)))
    series = ct_series(patient=patient, slices=200, size=16)
    for ds in series:
        ds.Rows = ds.Columns = 512
    service.send(*(encoded(ds, JPEGLSLossless, flat) for ds in series))
    detail = refused(service, uid(patient, 1), Reason.INVALID_PIXEL_DESCRIPTION)
    assert "52428800 pixels; accepted: at most 50000000" in detail
