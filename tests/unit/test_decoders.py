"""Decoding apart: the same values, and whatever happens to a process, the next frame is decoded."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from service.errors import DecoderFailed, FirstlookError, Reason, Unavailable, UnusableStudy
from service.metrics import Metrics
from service.prepare.codestream import DECODERS, MAX_FRAME_BYTES, FrameShape, decode_frame
from service.prepare.decoder_process import frame_offset
from service.prepare.decoders import Decoders

JPEG_LS, JPEG_2000, RLE, JPEG = (f"1.2.840.10008.1.2.{n}" for n in ("4.80", "4.90", "5", "4.70"))
SHAPE = FrameShape(64, 48, 1, 2)
TRUTH = np.random.default_rng(1).integers(0, 4096, SHAPE.shape).astype(np.uint16)
CODESTREAM = bytes(imagecodecs.jpegls_encode(TRUTH))


def packed(values: np.ndarray) -> bytes:
    """Return the frame in RLE."""
    segments = [bytes(imagecodecs.packbits_encode((values >> shift).astype(np.uint8).tobytes())) for shift in (8, 0)]
    segments = [s + b"\0" * (len(s) % 2) for s in segments]
    return np.array([2, 64, 64 + len(segments[0]), *[0] * 13], "<u4").tobytes() + b"".join(segments)


ENCODERS: dict[str, Callable[[np.ndarray], bytes]] = {
    JPEG_LS: lambda values: bytes(imagecodecs.jpegls_encode(values)),
    JPEG_2000: lambda values: bytes(imagecodecs.jpeg2k_encode(values, level=0, reversible=True, codecformat="j2k")),
    RLE: packed,
    JPEG: lambda values: bytes(imagecodecs.ljpeg_encode(values, bitspersample=16)),
}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def decoders(metrics: Metrics) -> Iterator[Decoders]:
    made = Decoders(metrics, 1, timeout_s=1.0, memory_bytes=2**28, program="tests.crashing_decoder")
    yield made
    made.close()


def ended(metrics: Metrics, cause: str) -> float:
    return metrics.registry.get_sample_value("firstlook_decoders_ended_total", {"cause": cause}) or 0.0


def children() -> set[int]:
    found: set[int] = set()
    for thread in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            found |= {int(n) for n in (thread / "children").read_text().split()}
    return found


@pytest.mark.parametrize("syntax", ENCODERS)
def test_a_frame_is_the_same_as_decoded_here(decoders: Decoders, syntax: str) -> None:
    codestream = ENCODERS[syntax](TRUTH)
    here, apart = decode_frame(codestream, syntax, SHAPE), decoders(codestream, syntax, SHAPE)
    assert np.array_equal(apart, TRUTH) and np.array_equal(here, apart) and apart.dtype == here.dtype
    assert apart.flags.owndata


@pytest.mark.parametrize(("deed", "cause", "words"), [
    (b"DIE ", "crashed", "SIGSEGV"), (b"SPIN", "timeout", "within 1 s"), (b"STOP", "timeout", "within 1 s"),
    (b"GROW", "crashed", "exit code 1")])
def test_a_process_that_fails_ends_alone_and_the_next_frame_is_decoded(
        decoders: Decoders, metrics: Metrics, deed: bytes, cause: str, words: str) -> None:
    before = children()
    with pytest.raises(DecoderFailed, match=words) as caught:
        decoders(deed + CODESTREAM, JPEG_LS, SHAPE)
    assert caught.value.reason is Reason.DECODER_FAILED
    assert ended(metrics, cause) == (2 if cause == "crashed" else 1), "a crash is tried once more in a new process"
    assert children() == before
    assert np.array_equal(decoders(CODESTREAM, JPEG_LS, SHAPE), TRUTH)


@pytest.mark.parametrize("deed", [b"FILE", b"SOCK"])
def test_a_process_can_open_neither_files_nor_sockets(decoders: Decoders, deed: bytes) -> None:
    with pytest.raises(UnusableStudy, match="EMFILE"):
        decoders(deed + CODESTREAM, JPEG_LS, SHAPE)


def test_a_process_that_was_ended_from_outside_is_replaced_unnoticed(decoders: Decoders, metrics: Metrics) -> None:
    before = children()
    decoders(CODESTREAM, JPEG_LS, SHAPE)
    [process] = children() - before
    os.kill(process, signal.SIGKILL)
    assert np.array_equal(decoders(CODESTREAM, JPEG_LS, SHAPE), TRUTH)
    assert ended(metrics, "crashed") == 1


def test_a_real_bomb_of_more_memory_than_allowed_is_refused() -> None:
    """A few hundred bytes that announce, truly, 16 million pixels."""
    side = 4096
    bomb = bytes(imagecodecs.jpeg2k_encode(np.zeros((side, side), np.uint16), level=0, reversible=True, codecformat="j2k"))
    assert len(bomb) < 10_000
    decoders = Decoders(Metrics(), 1, memory_bytes=2**26)
    try:
        with pytest.raises(UnusableStudy):
            decoders(bomb, JPEG_2000, FrameShape(side, side, 1, 2))
        assert np.array_equal(decoders(CODESTREAM, JPEG_LS, SHAPE), TRUTH)
    finally:
        decoders.close()


@pytest.mark.parametrize("syntax", ENCODERS)
def test_truncated_and_damaged_codestreams_are_refused_or_decoded_and_nothing_else(decoders: Decoders, syntax: str) -> None:
    whole, random = ENCODERS[syntax](TRUTH), np.random.default_rng(3)
    bad = [whole[:n] for n in (0, 1, 2, 20, 70, len(whole) // 2, len(whole) - 40)]
    for _ in range(60):
        damaged = bytearray(whole)
        for at in random.integers(0, len(whole), 3):
            damaged[at] = random.integers(0, 256)
        bad.append(bytes(damaged))
    refused = 0
    for codestream in bad:
        try:
            assert decoders(codestream, syntax, SHAPE).shape == SHAPE.shape
        except UnusableStudy:
            refused += 1
    assert refused >= 7
    assert np.array_equal(decoders(whole, syntax, SHAPE), TRUTH)


def test_a_codestream_that_is_longer_than_any_frame_of_its_size_is_not_looked_at(decoders: Decoders) -> None:
    before = children()
    with pytest.raises(UnusableStudy, match="bytes for a frame of"):
        decoders(bytes(3 * 2**20), JPEG_LS, SHAPE)
    assert children() == before


def test_the_shared_memory_holds_the_largest_codestream_and_frame() -> None:
    from service.prepare.decoders import _AREA_BYTES, _HEADER_BYTES
    assert frame_offset(2 * MAX_FRAME_BYTES + _HEADER_BYTES) + MAX_FRAME_BYTES <= _AREA_BYTES


def test_a_process_is_replaced_after_so_many_frames(metrics: Metrics) -> None:
    decoders = Decoders(metrics, 1, frames_each=3)
    try:
        for _ in range(7):
            decoders(CODESTREAM, JPEG_LS, SHAPE)
        assert ended(metrics, "recycled") == 2
    finally:
        decoders.close()


def test_threads_share_the_processes(metrics: Metrics) -> None:
    before = children()
    decoders = Decoders(metrics, 2)
    decoders.warm()
    try:
        with ThreadPoolExecutor(6) as pool:
            frames = list(pool.map(lambda _: decoders(CODESTREAM, JPEG_LS, SHAPE), range(40)))
        assert all(np.array_equal(frame, TRUTH) for frame in frames)
        assert len(children() - before) == 2
    finally:
        decoders.close()
    assert children() == before


def test_a_process_that_cannot_be_started_is_an_error_that_passes(metrics: Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nonexistent")
    decoders = Decoders(metrics, 1)
    for _ in range(2):
        with pytest.raises(Unavailable):
            decoders(CODESTREAM, JPEG_LS, SHAPE)


def test_secrets_of_the_environment_are_not_handed_on(decoders: Decoders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRSTLOOK_WEB__ACCESS_TOKEN", "secret")
    before = children()
    decoders(CODESTREAM, JPEG_LS, SHAPE)
    [process] = children() - before
    assert b"secret" not in Path(f"/proc/{process}/environ").read_bytes()


def test_every_syntax_that_is_decoded_here_is_decoded_apart(decoders: Decoders) -> None:
    for syntax in DECODERS:
        with pytest.raises(FirstlookError):
            decoders(b"nonsense", syntax, SHAPE)
