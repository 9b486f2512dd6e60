"""Which part of a radiograph is picture: within the display shutter, the collimator, and a white border (PS3.3 C.7.6.11,
C.8.7.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from service.errors import UnusableStudy
from service.prepare.pixels import element

Box = tuple[int, int, int, int]
"""A part of an image: (top, bottom, left, right), pixels from 0, ends exclusive."""

Mask = NDArray[np.bool_]

KEYWORDS = tuple(
    name.format(kind) for kind in ("Shutter", "Collimator") for name in (
        "{}Shape", "{}LeftVerticalEdge", "{}RightVerticalEdge", "{}UpperHorizontalEdge", "{}LowerHorizontalEdge",
        "CenterOfCircular{}", "RadiusOfCircular{}", "VerticesOfThePolygonal{}"))

_LEAST_PART = 0.2  # of the image; a shutter that leaves less is not believed
_WHITE = 0.98
_MOST_BORDER = 0.2  # of a side


def shut_off(dataset: Dataset, rows: int, columns: int) -> tuple[Mask | None, tuple[str, ...]]:
    """Return what a viewer blackens, (y, x), and what is to be said of it: None without a shutter or collimator.

    What lies outside of any shape that is declared is shut off. A declaration that is damaged, or leaves less than a fifth
    of the image, is not followed, and said so.
    """
    open_: Mask | None = None
    notes: list[str] = []
    for kind in ("Shutter", "Collimator"):
        try:
            inside = _inside(dataset, kind, rows, columns)
        except (UnusableStudy, ValueError, TypeError, IndexError, OverflowError):
            notes.append(f"the {kind.lower()} is declared in a way that cannot be followed")
            continue
        if inside is None:
            continue
        if float(inside.mean()) < _LEAST_PART:
            notes.append(f"the {kind.lower()} leaves {100 * inside.mean():.0f} % of the image; it was not followed")
            continue
        open_ = inside if open_ is None else open_ & inside
    return (None if open_ is None or bool(open_.all()) else ~open_), tuple(notes)


def box_of(shut: Mask | None, grey: NDArray[np.float32]) -> Box | None:
    """Return the smallest box around what is not shut off, without a border that is white throughout; None for the whole.

    grey: (y, x) in 0..1 as displayed.
    """
    rows, columns = grey.shape
    top, bottom, left, right = 0, rows, 0, columns
    if shut is not None:
        open_rows, open_columns = (np.flatnonzero(~shut.all(axis=axis)) for axis in (1, 0))
        if not len(open_rows):
            return None
        top, bottom, left, right = (int(v) for v in (open_rows[0], open_rows[-1] + 1, open_columns[0], open_columns[-1] + 1))
    inner = grey[top:bottom, left:right]
    top, bottom = top + _white(inner), bottom - _white(inner[::-1])
    left, right = left + _white(inner.T), right - _white(inner.T[::-1])
    box = (top, bottom, left, right)
    return None if box == (0, rows, 0, columns) else box


def _white(lines: NDArray[np.float32]) -> int:
    """Return how many of the first lines are white from end to end; 0 when so many are that it is no border."""
    most = int(_MOST_BORDER * len(lines))
    count = 0
    while count <= most and float(lines[count].min()) >= _WHITE:
        count += 1
    return count if count <= most else 0


def _inside(dataset: Dataset, kind: str, rows: int, columns: int) -> Mask | None:
    shapes = _texts(element(dataset, f"{kind}Shape"))
    found = [_SHAPES[shape](dataset, kind, rows, columns) for shape in shapes if shape in _SHAPES]
    return np.logical_and.reduce(found) if found else None


def _rectangle(dataset: Dataset, kind: str, rows: int, columns: int) -> Mask:
    """Edges are numbers of columns and rows, from 1; the lines on them are still shown."""
    left, right, top, bottom = (round(_numbers(dataset, f"{kind}{edge}")[0]) for edge in (
        "LeftVerticalEdge", "RightVerticalEdge", "UpperHorizontalEdge", "LowerHorizontalEdge"))
    made = np.zeros((rows, columns), np.bool_)
    made[max(0, top - 1):max(0, bottom), max(0, left - 1):max(0, right)] = True
    return made


def _circle(dataset: Dataset, kind: str, rows: int, columns: int) -> Mask:
    row, column = _numbers(dataset, f"CenterOfCircular{kind}")[:2]
    radius = _numbers(dataset, f"RadiusOfCircular{kind}")[0]
    y, x = np.ogrid[1:rows + 1, 1:columns + 1]
    made: Mask = (y - row) ** 2 + (x - column) ** 2 <= radius**2
    return made


def _polygon(dataset: Dataset, kind: str, rows: int, columns: int) -> Mask:
    flat = _numbers(dataset, f"VerticesOfThePolygonal{kind}")
    points = np.round(np.array(flat, dtype=np.float64).reshape(-1, 2)[:, ::-1] - 1)  # (row, column) from 1 to (x, y) from 0
    if len(points) < 3 or np.abs(points).max() > 1e6:
        raise ValueError("no polygon")
    made = np.zeros((rows, columns), np.uint8)
    cv2.fillPoly(made, [points.astype(np.int32)], 1)
    return made.view(np.bool_)


_SHAPES: dict[str, Callable[[Dataset, str, int, int], Mask]] = {
    "RECTANGULAR": _rectangle, "CIRCULAR": _circle, "POLYGONAL": _polygon}


def _numbers(dataset: Dataset, keyword: str) -> list[float]:
    value = element(dataset, keyword)
    listed = [float(v) for v in (value if isinstance(value, Sequence) and not isinstance(value, str) else [value])]
    if not np.isfinite(listed).all():
        raise ValueError(keyword)
    return listed


def _texts(value: object) -> list[str]:
    return [value] if isinstance(value, str) else [str(v) for v in value] if isinstance(value, Sequence) else []
