"""Headers read by the form of the image before: the same as read from the first byte, whatever has changed."""

from __future__ import annotations

import io
import mmap
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless

from service.domain.study import Header
from service.errors import BadInstance
from service.receive import forms
from service.receive.forms import HeaderReader
from service.receive.header import read_encoded_header
from tests import builders


def encoded(ds: Dataset, syntax: str = ExplicitVRLittleEndian, undefined: bool = False) -> bytes:
    """Return a data set as it is sent."""
    buffer = io.BytesIO()
    bare = Dataset()
    bare.update(ds)
    for element in bare:
        element.is_undefined_length = undefined and element.VR == "SQ"
    bare.save_as(buffer, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True, enforce_file_format=False)
    return buffer.getvalue()


def slices(count: int = 6) -> list[Dataset]:
    """Return slices that differ as those of a scanner do: lengths too."""
    made = builders.ct_series(slices=count, size=16)
    for number, ds in enumerate(made):
        ds.SOPInstanceUID = "1.2.840.1" + "9" * (number % 4) + f".{number + 1}"
        ds.ImagePositionPatient = [-180, -180.25 * number, 10 ** (number % 3)]
        ds.SliceLocation = str(10 ** (number % 4))
        source = Dataset()
        source.ReferencedSOPInstanceUID = "1.2." + "3" * (number + 1)
        ds.SourceImageSequence = Sequence([source])
        ds.add_new(0x00091010, "LO", "x" * (number % 5))
    return made


def both(reader: HeaderReader, data: bytes, syntax: str = ExplicitVRLittleEndian, start: int = 0) -> Header | str:
    """Read both ways, and return what both give."""
    def tried(read: Callable[[], Header]) -> Header | str:
        try:
            return read()
        except BadInstance as error:
            return str(error)

    whole = tried(lambda: read_encoded_header(data, syntax, start))
    assert tried(lambda: reader.read(data, syntax, start)) == whole
    return whole


@pytest.fixture
def walked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the transfer syntax of each header that the reader did not read by a form."""
    seen: list[str] = []

    def noted(data: bytes, syntax: str, start: int = 0) -> Header:
        seen.append(syntax)
        return read_encoded_header(data, syntax, start)

    monkeypatch.setattr(forms, "read_encoded_header", noted)
    return seen


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless])
@pytest.mark.parametrize("undefined", [False, True])
def test_slices_of_a_series_are_read_by_the_form_of_the_first(walked: list[str], syntax: str, undefined: bool):
    reader, made = HeaderReader(), slices()
    found = [both(reader, encoded(ds, syntax, undefined), syntax) for ds in made]
    assert [h.sop_instance_uid for h in found if isinstance(h, Header)] == [ds.SOPInstanceUID for ds in made]
    assert len(walked) == 1


def test_it_reads_from_a_buffer_in_which_the_data_set_begins_somewhere():
    reader = HeaderReader()
    with mmap.mmap(-1, 65_536) as buffer, memoryview(buffer) as view:
        for number, ds in enumerate(slices()):
            data = encoded(ds)
            view[number:number + len(data)] = data
            with view[:number + len(data)] as piece:
                found = reader.read(piece, ExplicitVRLittleEndian, number)
            assert found == read_encoded_header(data, ExplicitVRLittleEndian)


def _value(name: str, value: object) -> Callable[[Dataset], None]:
    return lambda ds: setattr(ds, name, value)


CHANGES: dict[str, Callable[[Dataset], None]] = {
    "another character set": _value("SpecificCharacterSet", "ISO_IR 100"),
    "a name in it": _value("PatientName", "Müller"),
    "a priority": _value("RequestedProcedurePriority", "STAT"),
    "an element more": _value("BodyPartExamined", "CHEST"),
    "a private element": lambda ds: ds.add_new(0x00111001, "LO", "more"),
    "an element less": lambda ds: delattr(ds, "SliceLocation"),
    "an empty value": _value("SliceLocation", None),
    "a value of another kind": _value("InstanceNumber", None),
    "a frame of reference that is none": lambda ds: ds.add_new("FrameOfReferenceUID", "LO", "none"),
    "another study": _value("StudyInstanceUID", "1.2.3.4.5.6.7"),
    "no pixels": lambda ds: delattr(ds, "PixelData"),
    "more pixels": lambda ds: setattr(ds, "PixelData", bytes(4096)),
    "a longer description": _value("SeriesDescription", "thin slices, lung kernel"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_else_changes_is_read_from_the_first_byte_on(change: str):
    reader, made = HeaderReader(), slices(3)
    plain = [both(reader, encoded(ds)) for ds in made]
    CHANGES[change](made[1])
    assert isinstance(both(reader, encoded(made[1])), Header | str)
    assert [both(reader, encoded(ds)) for ds in (made[0], made[2])] == [plain[0], plain[2]]


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.99])
def test_a_data_set_that_is_cut_off_is_refused_as_ever(kept: float):
    reader, data = HeaderReader(), [encoded(ds) for ds in slices(3)]
    bare = encoded(builders.ct_series(slices=1, size=16)[0])
    for one in (*data, bare):
        both(reader, one)
        assert isinstance(both(reader, one[:int(len(one) * kept) // 2 * 2 + 1]), str)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.booleans())
def test_damaged_data_sets_are_read_or_refused_alike(seed: int, damages: int, implicit: bool):
    random, syntax = Random(seed), ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    made = [encoded(ds, syntax, bool(seed % 2)) for ds in SLICES]
    reader = HeaderReader()
    both(reader, made[0], syntax)
    for _ in range(8):
        data = bytearray(random.choice(made))
        for _ in range(damages):
            at = random.randrange(len(data) - 600)
            match random.randrange(4):
                case 0:
                    data[at] = random.randrange(256)
                case 1:
                    del data[at:at + random.choice((1, 2, 8))]
                case 2:
                    data[at:at] = data[at:at + random.choice((1, 2, 8))]
                case _:
                    data[at:at + 2] = b"\xff\xff"
        both(reader, bytes(data), syntax)
        both(reader, random.choice(made), syntax)


SLICES = slices()


def test_a_sender_whose_images_have_nothing_in_common_is_not_compared_for_ever(monkeypatch: pytest.MonkeyPatch):
    tried = []
    kept = forms._form_of
    monkeypatch.setattr(forms, "_form_of", lambda *given: tried.append(1) or kept(*given))
    reader, made = HeaderReader(), slices(2)
    CHANGES["an element less"](made[1])
    for number in range(64):
        both(reader, encoded(made[number % 2]))
    assert len(tried) < 4
    rest = [both(reader, encoded(ds)) for ds in builders.ct_series(slices=1, size=16) for _ in range(3)]
    assert rest and len(tried) < 6
