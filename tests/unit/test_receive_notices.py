"""Notices are read within bounds, in each encoding, and whatever they hold."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pynetdicom.dsutils import encode

from service.domain.notice import NoticeKind, NoticeState
from service.errors import BadInstance
from service.receive.notices import MAX_BYTES, read_availability, read_step
from tests.announcing import availability, performed, step
from tests.builders import ct_series, radiograph, uid

IMAGES = [*ct_series(slices=4, size=8), *ct_series(slices=3, size=8, series=2)]


def encoded(dataset: Dataset, implicit: bool = False) -> bytes:
    made = encode(dataset, implicit, True)
    assert made is not None
    return made


def undefined(dataset: Dataset) -> Dataset:
    """Give every sequence and item an undefined length."""
    for element in dataset:
        if element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True
                undefined(item)
    return dataset


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("lengths", ["defined", "undefined"])
def test_availability_lists_every_instance_of_every_series(implicit: bool, lengths: str) -> None:
    message = availability(IMAGES)
    data = encoded(undefined(message) if lengths == "undefined" else message, implicit)
    told = read_availability("1.2", data, implicit)
    assert (told.kind, told.state, told.study_instance_uids) == (
        NoticeKind.AVAILABILITY, NoticeState.AVAILABLE, (uid(1, 1),))
    assert told.listed == {ds.SOPInstanceUID: ds.SOPClassUID for ds in IMAGES}


@pytest.mark.parametrize("implicit", [False, True])
def test_step_names_its_study_when_it_begins_and_its_images_when_it_ends(implicit: bool) -> None:
    begun = read_step("1.2", encoded(step(uid(1, 1)), implicit), implicit)
    assert (begun.state, begun.study_instance_uids, begun.listed) == (NoticeState.IN_PROGRESS, (uid(1, 1),), {})
    ended = read_step("1.2", encoded(undefined(performed(IMAGES)), implicit), implicit)
    assert ended.state is NoticeState.COMPLETED and len(ended.listed) == 7 and ended.study_instance_uids == ()
    stopped = read_step("1.2", encoded(performed(IMAGES[:2], "DISCONTINUED"), implicit), implicit)
    assert stopped.state is NoticeState.DISCONTINUED and len(stopped.listed) == 2


def test_what_nobody_can_get_is_not_expected() -> None:
    assert read_availability("1.2", encoded(availability(IMAGES, "UNAVAILABLE")), False).listed == {}


def test_uids_that_are_none_are_left_out_and_a_notice_without_study_is_refused() -> None:
    message = availability([radiograph(size=8)])
    item = message.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    item["ReferencedSOPInstanceUID"]._value = "../../etc/passwd"
    assert read_availability("1.2", encoded(message), False).listed == {}
    del message.StudyInstanceUID
    with pytest.raises(BadInstance, match="no Study Instance UID"):
        read_availability("1.2", encoded(message), False)
    with pytest.raises(BadInstance, match="Status"):
        read_step("1.2", encoded(step(uid(1, 1), "FINISHED")), False)


def test_nesting_and_size_are_bounded() -> None:
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    sequence = struct.pack("<HH2sHL", 0x0008, 0x1115, b"SQ", 0, 0xFFFFFFFF)
    with pytest.raises(BadInstance):
        read_availability("1.2", (sequence + item) * 5000, False)
    deep = b""
    for _ in range(5000):
        deep = struct.pack("<HHL", 0xFFFE, 0xE000, len(deep) + 12) + struct.pack(
            "<HH2sHL", 0x0008, 0x1115, b"SQ", 0, len(deep)) + deep
    study = struct.pack("<HH2sH", 0x0020, 0x000D, b"UI", 4) + b"1.2\0"
    whole = struct.pack("<HH2sHL", 0x0008, 0x1115, b"SQ", 0, len(deep)) + deep + study
    assert read_availability("1.2", whole, False).listed == {}
    with pytest.raises(BadInstance, match="at most"):
        read_availability("1.2", bytes(MAX_BYTES + 1), False)


@settings(deadline=None)
@given(st.binary(max_size=400), st.booleans())
def test_random_bytes_are_refused_and_nothing_else(data: bytes, implicit: bool) -> None:
    for read in (read_availability, read_step):
        try:
            told = read("1.2", data, implicit)
        except BadInstance:
            continue
        assert told.listed == {} or all(told.listed.values())


_WHOLE = encoded(undefined(availability(IMAGES)))


@settings(deadline=None)
@given(st.integers(0, len(_WHOLE) - 1), st.binary(min_size=1, max_size=8))
def test_a_damaged_notice_is_read_or_refused(at: int, damage: bytes) -> None:
    data = (_WHOLE[:at] + damage + _WHOLE[at + len(damage):])
    try:
        assert len(read_availability("1.2", data, False).listed) <= 8
    except BadInstance:
        return
