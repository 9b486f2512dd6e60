"""Damaged bytes against what reads them, for so long: FIRSTLOOK_FUZZ_S seconds for each reader (a few where not set).

Each reader may refuse with its own error, and nothing else. An input that once did something else is kept in `corpus/` as
<reader>-<what it is>.bin and tried at each run; a new one is printed in hexadecimal, made as small as it gets.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, ImplicitVRLittleEndian, JPEGLSLossless

from service.errors import BadInstance, UnusableStudy
from service.metrics import Metrics
from service.prepare.decoders import Decoders
from service.prepare.display import to_grey
from service.receive.blocks import BLOCK_BYTES
from service.receive.header import read_encoded_header, read_file_header
from service.receive.pdata import InvalidPData, read_pdu_header, read_store_request, read_value_header, write_store_response
from service.receive.ready import restore_left
from service.receive.ready_file import HEAD_BYTES, ReadyFile, make_ready
from service.receive.spool import READY
from tests.builders import as_bytes, ct_series, radiograph
from tests.hostile.test_receive import associate_request, store_request
from tests.peers import HOST, Raw, Station, listening, store, wait_until

BUDGET_S = float(os.environ.get("FIRSTLOOK_FUZZ_S", "2"))
CORPUS = Path(__file__).parent / "corpus"
ROUND = 100
NUMBERS = (0, 1, 2, 4, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFE, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)

CT = CTImageStorage.encode()
SLICE = ct_series(slices=1, size=8)[0]
NESTED = ct_series(slices=1, size=8)[0]
NESTED.RequestAttributesSequence = [radiograph(size=8), radiograph(size=8)]
NESTED.ViewCodeSequence = []
IMPLICIT = ct_series(slices=1, size=8)[0]
IMPLICIT.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
COMPRESSED = radiograph(size=16)
COMPRESSED.PixelData = encapsulate(
    [bytes(imagecodecs.jpegls_encode(np.frombuffer(COMPRESSED.PixelData, "<u2").reshape(16, 16)))])
COMPRESSED.file_meta.TransferSyntaxUID = JPEGLSLossless
COMMAND = store_request(CT, b"1.2.3\0", b"")[12:]
pytestmark = pytest.mark.filterwarnings("ignore:::pydicom")  # as service.logs does: pydicom tells of each odd value


# ---------------------------------------------------------------- the readers: seeds, and what may come of a damaged one

def read_command(data: bytes) -> None:
    """A command set (PS3.7 6.3.1): understood or not; what is understood can be answered."""
    request = read_store_request(data)
    if request is not None:
        assert write_store_response(1, request, 0)


def read_pdu(data: bytes) -> None:
    """A P-DATA-TF PDU, value by value, as the fast path walks it."""
    at, end = 6, len(data)
    if end < 6 or read_pdu_header(data)[0] != 4:
        return
    while at + 6 <= end:
        try:
            value = read_value_header(data, at, end - at)
        except InvalidPData:
            return
        assert 0 <= value.size_bytes <= end - at - 6
        at += 6 + value.size_bytes


def read_data_set(data: bytes) -> None:
    """A data set as it comes over the wire, in both transfer syntaxes."""
    for syntax in ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2"):
        try:
            header = read_encoded_header(data, syntax)
        except BadInstance:
            continue
        assert header.from_json(header.to_json()) == header


class SpooledFile:
    """A file of the spool: its header, and its pixels through decoding processes."""

    def __init__(self) -> None:
        self._decoders = Decoders(Metrics(), 1, timeout_s=20.0)
        self._folder = tempfile.TemporaryDirectory()

    def __call__(self, data: bytes) -> None:
        """Read one file."""
        path = Path(self._folder.name) / "x.dcm"
        path.write_bytes(data)
        with suppress(BadInstance):
            read_file_header(path)
        try:
            image, _ = to_grey(path, self._decoders)
        except UnusableStudy:
            return
        assert 0 <= image.grey.min() <= image.grey.max() <= 1

    def close(self) -> None:
        """End the processes and remove the folder."""
        self._decoders.close()
        self._folder.cleanup()


class LeftReady:
    """A ready file that a killed process has left: what a start makes of it is the image that was sealed, or nothing."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._spool = Path(self._folder.name)
        (self._spool / READY_NAME[:2]).mkdir()

    @classmethod
    def seed(cls) -> bytes:
        """Return a ready file in which an image of two blocks and a half is sealed."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / READY_NAME
            make_ready(str(path), 4 * BLOCK_BYTES)
            file, whole = ReadyFile(folder, folder, READY_NAME), memoryview(mmap.mmap(-1, 3 * BLOCK_BYTES))
            whole[:len(READY_IMAGE)] = READY_IMAGE
            file.seal(whole[:BLOCK_BYTES], whole, 0, len(READY_IMAGE), 7.0)
            file.close()
            return path.read_bytes()

    def __call__(self, data: bytes) -> None:
        """Start with one ready file."""
        left = self._spool / READY / "0123456789abcdef"
        left.mkdir(parents=True)
        (left / READY_NAME).write_bytes(data)
        place = self._spool / READY_NAME[:2] / f"{READY_NAME}.dcm"
        assert restore_left(self._spool / READY, self._spool) == place.exists()
        if place.exists():
            assert bytes(HEAD_BYTES) + place.read_bytes()[HEAD_BYTES:] == READY_IMAGE
            assert place.stat().st_mtime == 7.0
            place.unlink()
        assert not left.exists()

    def close(self) -> None:
        """Remove the folder."""
        self._folder.cleanup()


READY_NAME = "ab" * 16
READY_IMAGE = bytes(128) + bytes(range(1, 101)) * 100
SEEDS: dict[str, list[bytes]] = {
    "command": [COMMAND, store_request(CT, b"1." + b"2" * 62, b"")[12:]],
    "pdu": [store_request(CT, b"1.2.3\0", bytes(50)), struct.pack(">BBL", 4, 0, 8) + struct.pack(">LBB", 4, 1, 2) + b"ab"],
    "dataset": [Raw.of(ds).data or b"" for ds in (SLICE, NESTED, IMPLICIT)],
    "file": [as_bytes(ds) for ds in (SLICE, NESTED, IMPLICIT, COMPRESSED, radiograph(size=16))],
    "ready": [LeftReady.seed()],
    "wire": [associate_request(abstract_syntax=CT) + store_request(CT, b"1.2.3\0", Raw.of(SLICE).data or b""),
             associate_request() + struct.pack(">BBLL", 5, 0, 4, 0)],
}


@pytest.fixture
def spooled() -> Iterator[SpooledFile]:
    made = SpooledFile()
    yield made
    made.close()


def damaged(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """Return damaged copies of the seeds: bytes and lengths changed, pieces cut out, doubled, or taken from another."""
    place = st.floats(0, 1, exclude_max=True)
    number = st.sampled_from(NUMBERS) | st.integers(0, 2**32 - 1)
    change = st.tuples(st.sampled_from(("byte", "short", "long", "cut", "double", "other", "end")), place, place, number)
    return st.builds(_changed, st.sampled_from(seeds), st.sampled_from(seeds), st.lists(change, min_size=1, max_size=5))


def _changed(seed: bytes, other: bytes, changes: list[tuple[str, float, float, int]]) -> bytes:
    data = bytearray(seed)
    for kind, first, second, number in changes:
        at = int(first * len(data))
        piece = slice(at, at + int(second * 64))
        if kind == "byte":
            data[at:at + 1] = bytes([number % 256])
        elif kind == "short":
            data[at:at + 2] = (number % 2**16).to_bytes(2, "little")
        elif kind == "long":
            data[at:at + 4] = number.to_bytes(4, "big" if number % 2 else "little")
        elif kind == "cut":
            del data[piece]
        elif kind == "double":
            data[at:at] = data[piece]
        elif kind == "other":
            data[piece] = other[piece]
        else:
            del data[at:]
    return bytes(data)


def fuzz(name: str, read: Callable[[bytes], None]) -> None:
    """Try damaged seeds for the budget, round by round; a failure is made small by hypothesis."""
    @settings(max_examples=ROUND, deadline=None, database=None, suppress_health_check=list(HealthCheck),
              phases=(Phase.generate, Phase.shrink))
    @given(damaged(SEEDS[name]))
    def once(data: bytes) -> None:
        try:
            read(data)
        except BaseException as error:
            error.add_note(f"input for corpus/{name}-*.bin: {data.hex()}")
            raise

    until = time.monotonic() + BUDGET_S
    while time.monotonic() < until:
        once()


@pytest.mark.timeout(BUDGET_S * 4 + 180)
@pytest.mark.parametrize(("name", "read"), [("command", read_command), ("pdu", read_pdu), ("dataset", read_data_set)])
def test_readers_of_bytes_refuse_or_read_whatever_comes(name: str, read: Callable[[bytes], None]) -> None:
    for seed in SEEDS[name]:
        read(seed)
    fuzz(name, read)


@pytest.mark.timeout(BUDGET_S * 4 + 180)
def test_readers_of_spooled_files_refuse_or_read_whatever_comes(spooled: SpooledFile) -> None:
    fuzz("file", spooled)


@pytest.fixture
def ready() -> Iterator[LeftReady]:
    made = LeftReady()
    yield made
    made.close()


@pytest.mark.timeout(BUDGET_S * 4 + 180)
def test_a_start_takes_or_ignores_whatever_a_ready_file_holds(ready: LeftReady) -> None:
    ready(SEEDS["ready"][0])
    fuzz("ready", ready)


@pytest.fixture
def station(tmp_path: Path) -> Iterator[Station]:
    with listening(tmp_path, association_timeout_s=0.3, idle_timeout_s=0.3) as made:
        yield made


def over_the_wire(station: Station, data: bytes) -> None:
    """Send bytes to the listener, and read what it says until it closes."""
    with socket.create_connection((HOST, station.port), timeout=20) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
        except TimeoutError:
            raise
        except OSError:
            return  # it was faster to close than we to send


@pytest.mark.timeout(BUDGET_S * 4 + 180)
def test_the_listener_outlives_whatever_comes_over_the_wire(station: Station) -> None:
    fuzz("wire", lambda data: over_the_wire(station, data))
    wait_until(lambda: station.counted("firstlook_associations_open") == 0)
    assert not list(station.spool.root.rglob("*.part"))
    assert store(station.port, Raw.of(radiograph(patient=9, size=16))) == [0]


@pytest.mark.parametrize("kept", sorted(CORPUS.glob("*.bin")), ids=lambda path: path.stem)
def test_past_failures_stay_mended(
        kept: Path, spooled: SpooledFile, ready: LeftReady, station: Station) -> None:
    data = kept.read_bytes()
    readers: dict[str, Callable[[bytes], None]] = {
        "command": read_command, "pdu": read_pdu, "dataset": read_data_set, "file": spooled, "ready": ready,
        "wire": lambda d: over_the_wire(station, d)}
    readers[kept.stem.split("-")[0]](data)
