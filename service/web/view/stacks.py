"""Which images of a study its page shows, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from service.assemble.choose import choose
from service.assemble.geometry import GeometryRules
from service.domain.study import (
    CR_IMAGE_STORAGE,
    CT_IMAGE_STORAGE,
    DX_FOR_PRESENTATION,
    ENHANCED_CT_IMAGE_STORAGE,
    Header,
    Kind,
    VolumeGeometry,
)
from service.errors import UnusableStudy

_ALONG = 0.85  # a row within 32 degrees of left-right: coronal and sagittal planes are what their names say
_LETTERS = (("L", "R"), ("P", "A"), ("H", "F"))


@dataclass(frozen=True)
class Shown:
    """One image. path: relative to the spool."""

    path: str
    header: Header


@dataclass(frozen=True)
class Stack:
    """Images that are paged through: the slices of a CT series, or one radiograph.

    images: a volume's from head to feet, others by instance number; geometry: of a volume, None where there is none;
    read: whether these are the images that a model reads; rising: whether the page's order is that of `geometry`.
    """

    title: str
    ct: bool
    read: bool
    images: tuple[Shown, ...]
    geometry: VolumeGeometry | None = None
    rising: bool = False

    @property
    def in_order(self) -> tuple[Shown, ...]:
        """The images in the order of `geometry`."""
        return self.images if self.rising else self.images[::-1]

    @property
    def has_planes(self) -> bool:
        """Whether coronal and sagittal planes can be made."""
        return self.geometry is not None and abs(self.geometry.orientation[0]) >= _ALONG

    @property
    def letters(self) -> tuple[str, str, str, str]:
        """Which side of the patient lies left, right, above and below on a slice; "" where nobody says."""
        first = self.images[0].header
        if len(first.image_orientation_patient) == 6:
            row, column = first.image_orientation_patient[:3], first.image_orientation_patient[3:]
            return _toward(row, -1), _toward(row, 1), _toward(column, -1), _toward(column, 1)
        if len(first.patient_orientation) == 2:
            right, below = first.patient_orientation
            return _opposite(right), right[:1], _opposite(below), below[:1]
        return "", "", "", ""


FramesOf = Callable[[Shown], Sequence[Header]]
"""Gives a header for each frame of an enhanced CT; raises UnusableStudy, or OSError when the file is gone."""


def stacks(images: Sequence[Shown], rules: GeometryRules, frames_of: FramesOf) -> list[Stack]:
    """Return what can be shown, what a model reads first. rules: of the settings, so that the choice is the model's."""
    frames = {i.header.sop_instance_uid: _frames(i, frames_of) for i in images if _is_enhanced(i.header)}
    shown = [i for i in images if i.header.sop_class_uid in (CT_IMAGE_STORAGE, CR_IMAGE_STORAGE, DX_FOR_PRESENTATION)]
    whole = [i for i in images if frames.get(i.header.sop_instance_uid)]
    chosen = _chosen(shown, whole, frames, rules)
    shown += [one for i in whole for one in frames[i.header.sop_instance_uid]]
    seen = {i.header.sop_instance_uid for stack in chosen for i in stack.images}
    return chosen + _others([i for i in shown if i.header.sop_instance_uid not in seen])


def _is_enhanced(header: Header) -> bool:
    return header.sop_class_uid == ENHANCED_CT_IMAGE_STORAGE


def _frames(image: Shown, frames_of: FramesOf) -> list[Shown]:
    try:
        return [Shown(image.path, header) for header in frames_of(image)]
    except (UnusableStudy, OSError):
        return []


def _chosen(
    single: Sequence[Shown], whole: Sequence[Shown], frames: Mapping[str, Sequence[Shown]], rules: GeometryRules,
) -> list[Stack]:
    """Return the images that a model reads; none where it reads none of them."""
    by_uid = {i.header.sop_instance_uid: i for i in [*single, *(one for of in frames.values() for one in of)]}

    def headers_of(header: Header) -> Sequence[Header]:
        return [one.header for one in frames[header.sop_instance_uid]]

    try:
        selection = choose([i.header for i in (*single, *whole)], rules, lambda one, other: True, headers_of)
    except UnusableStudy:
        return []
    images = tuple(by_uid[h.sop_instance_uid] for h in selection.headers)
    if selection.kind is not Kind.CT or selection.geometry is None:
        return [Stack(_title(i.header), False, True, (i,)) for i in images]
    rising = selection.geometry.normal[2] < 0
    ordered = images if rising else images[::-1]
    return [Stack(_title(images[0].header), True, True, ordered, selection.geometry, rising)]


def _others(left: Sequence[Shown]) -> list[Stack]:
    series: dict[str, list[Shown]] = {}
    for image in left:
        own = "" if is_ct(image.header) else image.header.sop_instance_uid
        series.setdefault(own or image.header.series_instance_uid, []).append(image)
    made = []
    for images in series.values():
        images.sort(key=lambda i: (i.header.instance_number or 0, i.header.frame_number or 0, i.header.sop_instance_uid))
        first = images[0].header
        made.append(Stack(_title(first), is_ct(first), False, tuple(images)))
    return sorted(made, key=lambda s: (s.images[0].header.series_number or 0, s.title))


def is_ct(header: Header) -> bool:
    """Tell whether an image is a slice of a CT, or a frame of an enhanced one."""
    return header.sop_class_uid in (CT_IMAGE_STORAGE, ENHANCED_CT_IMAGE_STORAGE)


def _title(header: Header) -> str:
    number = f"Series {header.series_number}" if header.series_number is not None else "Series"
    what = header.series_description or header.view_position or header.protocol_name
    return f"{number}: {what}" if what else number


def _toward(direction: Sequence[float], sign: int) -> str:
    """Return the letter of the patient's side that a direction of the image points to (PS3.3 C.7.6.1.1.1)."""
    axis = max(range(3), key=lambda k: abs(direction[k]))
    return _LETTERS[axis][0 if direction[axis] * sign > 0 else 1]


def _opposite(letter: str) -> str:
    return {a: b for pair in _LETTERS for a, b in (pair, pair[::-1])}.get(letter[:1], "")
