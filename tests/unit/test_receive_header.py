"""Reading headers: strict on identifiers, tolerant of the rest."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from service.domain.study import Header
from service.errors import BadInstance, Reason
from service.receive.elements import MAX_DEPTH, walk
from service.receive.header import is_uid, read_encoded_header, read_file_header, read_header
from tests import builders
from tests.peers import Raw

IDENTIFIERS = ["SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID"]


def explicit(tag: int, vr: bytes, value: bytes) -> bytes:
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, len(value)) + value


def minimal(**replaced: bytes) -> bytes:
    """Return a data set of four identifiers, explicit VR little endian, each replaceable by raw bytes."""
    values = {"SOPClassUID": (0x00080016, b"1.2.840.10008.5.1.4.1.1.2\0"), "SOPInstanceUID": (0x00080018, b"1.2.3\0"),
              "StudyInstanceUID": (0x0020000D, b"1.2\0"), "SeriesInstanceUID": (0x0020000E, b"1.2.4\0")}
    return b"".join(explicit(tag, b"UI", replaced.get(k, v)) for k, (tag, v) in values.items())


def read(data: bytes, syntax: str = ExplicitVRLittleEndian):
    return read_encoded_header(data, syntax)


def test_a_ct_slice_is_read_whole():
    header = read_header(builders.ct_series(slices=3, spacing_mm=(5.0, 2.5, 2.5))[2])
    assert (header.modality, header.instance_number, header.patient_id) == ("CT", 3, "P0001")
    assert header.image_position_patient == (0.0, 0.0, 10.0)
    assert header.image_orientation_patient == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    assert (header.rescale_slope, header.rescale_intercept, header.rescale_type) == (1.0, -1024.0, "HU")
    assert header.image_type == ("ORIGINAL", "PRIMARY", "AXIAL")
    assert (header.rows, header.bits_stored, header.pixel_representation) == (128, 16, 0)
    assert header.transfer_syntax_uid == ExplicitVRLittleEndian


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("made", [builders.ct_series(slices=1, size=16)[0], builders.radiograph(size=16),
                                  builders.radiograph(size=16, sop_class="CR")])
def test_encoded_bytes_give_the_same_header_as_the_data_set(made, syntax):
    made.file_meta.TransferSyntaxUID = syntax
    assert read(Raw.of(made).data, syntax) == read_header(made)


def test_a_file_gives_the_same_header_as_the_data_set(tmp_path: Path):
    made = builders.radiograph()
    assert read_file_header(builders.write([made], tmp_path)[0]) == read_header(made)


def test_the_header_survives_json():
    header = read_header(builders.ct_series(slices=1)[0])
    assert type(header).from_json(header.to_json()) == header


@pytest.mark.parametrize("nested", [False, True])
def test_the_ordered_priority_is_found_at_either_place(nested: bool):
    made = builders.radiograph()
    item = Dataset()
    (item if nested else made).RequestedProcedurePriority = "STAT"
    made.RequestAttributesSequence = Sequence([item])
    assert read_header(made).requested_procedure_priority == "STAT"
    assert read(Raw.of(made).data).requested_procedure_priority == "STAT"


def test_the_view_code_is_read_from_its_sequence_of_undefined_length():
    made = builders.radiograph()
    item = Dataset()
    item.CodeMeaning = "postero-anterior"
    made.ViewCodeSequence = Sequence([item])
    made["ViewCodeSequence"].is_undefined_length = True
    made.ViewCodeSequence[0].is_undefined_length_sequence_item = True
    assert read(Raw.of(made).data).view_code_meaning == "postero-anterior"


@pytest.mark.parametrize("value", [
    b"../../etc/passwd", b"/etc/passwd", b"1.2\x00.3", b"1." + b"2" * 63, b"", b"1..2", b".1", b"1.", b"1.2a", b"1 .2",
    "1.２".encode(), b"1.2\\1.3", b"1.2\n",
])
@pytest.mark.parametrize("keyword", IDENTIFIERS)
def test_an_identifier_that_is_no_uid_is_refused(keyword: str, value: bytes):
    with pytest.raises(BadInstance) as refused:
        read(minimal(**{keyword: value}))
    assert refused.value.reason is Reason.OBJECT_MALFORMED
    assert value.decode("latin-1") not in str(refused.value) or not value


@pytest.mark.parametrize("keyword", IDENTIFIERS)
def test_an_absent_identifier_is_refused(keyword: str):
    made = builders.radiograph()
    delattr(made, keyword)
    with pytest.raises(BadInstance):
        read_header(made)


@pytest.mark.parametrize(("text", "valid"), [("1.2.840", True), ("0", True), ("2.25." + "9" * 59, True), ("1.02", True),
                                             ("2.25." + "9" * 60, False), ("", False), ("1.²", False)])
def test_uids_are_told_from_other_text(text: str, valid: bool):
    assert is_uid(text) is valid


@pytest.mark.parametrize(("tag", "vr", "value"), [
    (0x00281053, b"DS", b"not a number"), (0x00281053, b"DS", b"1\\2 "), (0x00281053, b"DS", b"1e999 "),
    (0x00281053, b"DS", b"NaN "), (0x00281053, b"DS", b""), (0x00281053, b"SH", b"\xff\xfe"),
])
def test_a_bad_number_is_absent(tag: int, vr: bytes, value: bytes):
    assert read(minimal() + explicit(tag, vr, value)).rescale_slope is None


def test_a_position_of_which_one_number_is_bad_is_absent():
    header = read(minimal() + explicit(0x00200032, b"DS", b"1\\x\\3 "))
    assert header.image_position_patient == ()


def test_rows_of_another_representation_are_still_read():
    assert read(minimal() + explicit(0x00280010, b"UL", struct.pack("<L", 512))).rows == 512
    assert read(minimal() + explicit(0x00280010, b"IS", b"512 ")).rows == 512


def test_text_keeps_its_characters_and_loses_its_control_characters():
    utf8 = explicit(0x00080005, b"CS", b"ISO_IR 192") + explicit(0x00100010, b"PN", "Müller^Jürgen\x00\x07x ".encode())
    assert read(utf8 + minimal()).patient_name == "Müller^Jürgen  x"


@pytest.mark.parametrize("character_set", [b"ISO_IR 100", b"NO SUCH SET ", b"ISO_IR 192", b"\\ISO 2022 IR 87 ", b""])
def test_text_in_the_wrong_character_set_is_kept(character_set: bytes):
    data = explicit(0x00080005, b"CS", character_set) + explicit(0x00100010, b"PN", b"M\xfcller")
    assert read(data + minimal()).patient_name == "Müller"


def test_japanese_by_escape_sequences_is_read():
    made = builders.radiograph(SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName="Yamada^Tarou=山田^太郎")
    assert read(Raw.of(made).data).patient_name == "Yamada^Tarou=山田^太郎"


def test_korean_by_escape_sequences_is_read():
    data = explicit(0x00080005, b"CS", b"\\ISO 2022 IR 149")
    assert read(data + explicit(0x00081030, b"LO", b"\x1b$)C" + "흉부 ".encode("euc_kr")) + minimal()
                ).study_description == "흉부"


def test_huge_text_is_cut():
    assert len(read(minimal() + explicit(0x00104000, b"LT", b"x" * 60000)
                    + explicit(0x00181030, b"LO", b"y" * 60000)).protocol_name) == 1024


def nested(depth: int, defined: bool = False) -> bytes:
    """Return a private sequence nested that deep, of undefined or defined lengths."""
    value = b""
    for _ in range(depth):
        if defined:
            value = struct.pack("<HHL", 0xFFFE, 0xE000, len(value)) + value
            value = struct.pack("<HH2sHL", 0x0009, 0x1010, b"SQ", 0, len(value)) + value
        else:
            begin = struct.pack("<HH2sHL", 0x0009, 0x1010, b"SQ", 0, 0xFFFFFFFF)
            begin += struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
            value = begin + value + struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    return value


def test_sequences_of_absurd_depth_are_refused():
    with pytest.raises(BadInstance, match="deeper"):
        read(nested(5000) + minimal())


def test_sequences_of_ordinary_depth_are_stepped_over():
    assert read(nested(MAX_DEPTH // 2) + minimal()).sop_instance_uid == "1.2.3"
    assert read(nested(5000, defined=True) + minimal()).sop_instance_uid == "1.2.3"


def test_an_unknown_sequence_of_undefined_length_is_stepped_over_as_implicit():
    unknown = struct.pack("<HH2sHL", 0x0009, 0x1010, b"UN", 0, 0xFFFFFFFF)
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + struct.pack("<HHL", 0x0009, 0x1011, 2) + b"ab"
    ends = struct.pack("<HHL", 0xFFFE, 0xE00D, 0) + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    assert read(unknown + item + ends + minimal()).sop_instance_uid == "1.2.3"


def test_every_truncation_of_a_slice_inside_an_element_is_refused():
    data = Raw.of(builders.ct_series(slices=1, size=8)[0]).data
    whole = {element.end for element in walk(data, implicit=False)}
    for length in sorted(set(range(len(data))) - whole):
        with pytest.raises(BadInstance):
            read(data[:length])


def test_a_length_past_the_end_is_refused():
    with pytest.raises(BadInstance, match="ends at byte"):
        read(minimal() + struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, 1 << 30))


def test_truncated_fragments_of_compressed_pixels_are_refused():
    pixels = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF) + struct.pack("<HHL", 0xFFFE, 0xE000, 0)
    whole = pixels + struct.pack("<HHL", 0xFFFE, 0xE000, 4) + b"jpeg" + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    assert read(minimal() + whole).sop_instance_uid == "1.2.3"
    for length in range(len(pixels), len(whole)):
        with pytest.raises(BadInstance):
            read(minimal() + whole[:length])


def test_what_follows_the_pixels_is_not_looked_at():
    data = Raw.of(builders.ct_series(slices=1, size=8)[0]).data
    assert read(data + b"\xff\xff\xff").sop_instance_uid == builders.uid(1, 1, 1, 1)


def test_a_data_set_in_another_encoding_than_announced_is_refused():
    made = builders.ct_series(slices=1, size=8)[0]
    with pytest.raises(BadInstance):
        read(Raw.of(made).data, ImplicitVRLittleEndian)
    made.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    with pytest.raises(BadInstance):
        read(Raw.of(made).data, ExplicitVRLittleEndian)


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, "1.2.840.10008.1.2.2", "", "nonsense"])
def test_an_unusable_transfer_syntax_is_refused(syntax: str):
    with pytest.raises(BadInstance):
        read(minimal(), syntax)


@pytest.mark.parametrize("content", [
    b"", b"short", bytes(200), bytes(128) + b"DICM", bytes(128) + b"DICM" + b"\x02\0" * 9,
])
def test_a_file_that_is_no_dicom_file_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "x.dcm"
    path.write_bytes(content)
    with pytest.raises(BadInstance):
        read_file_header(path)


def test_a_header_made_of_values_is_the_one_that_the_constructor_makes():
    values = {"sop_instance_uid": "1.2", "sop_class_uid": "1.3", "study_instance_uid": "1.4", "series_instance_uid": "1.5",
              "rows": 5, "pixel_spacing": (1.0, 2.0)}
    assert Header.of(values) == Header(**values)
    assert vars(Header.of(values)) == vars(Header(**values))
