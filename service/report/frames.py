"""References to frames: what was made of the frames of an enhanced CT as if they were images, told as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydicom.dataset import Dataset

from service.domain.study import ENHANCED_CT_IMAGE_STORAGE, Header

_OF_INSTANCES = ("ReferencedInstanceSequence", "ReferencedSOPSequence")
_LISTS = ("ReferencedSeriesSequence",)
"""Sequences whose items list instances, not frames: of a SEG or SC (PS3.3 C.12.1.1.6), and the evidence of an SR."""


def refer_to_frames(made: Dataset, headers: Sequence[Header]) -> None:
    """Let every reference to a frame name the multi-frame image, with Referenced Frame Number (PS3.3 10.3).

    made: an object of ours, made of `headers`; changed in place. Lists of the instances that were used name the whole once.
    """
    frames = {h.sop_instance_uid: h for h in headers if h.frame_number}
    if frames:
        _walk(made, frames)


def _walk(made: Dataset, frames: Mapping[str, Header]) -> None:
    for element in made:
        if element.VR != "SQ":
            continue
        for item in element.value:
            frame = frames.get(str(item.get("ReferencedSOPInstanceUID", "")))
            if frame is not None:
                item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = ENHANCED_CT_IMAGE_STORAGE, frame.multiframe_uid
                item.ReferencedFrameNumber = frame.frame_number
            _walk(item, frames)
            if element.keyword in _LISTS:
                _list_wholes(item)


def _list_wholes(series: Dataset) -> None:
    for keyword in _OF_INSTANCES:
        if keyword not in series:
            continue
        kept: dict[str, Dataset] = {}
        for item in series[keyword].value:
            item.pop("ReferencedFrameNumber", None)
            kept.setdefault(str(item.ReferencedSOPInstanceUID), item)
        setattr(series, keyword, list(kept.values()))
