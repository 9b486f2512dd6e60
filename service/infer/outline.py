"""Outlines of where a finding's evidence is strong, in pixels of the radiograph: what a viewer can draw."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from service.domain.finding import Outline

STRONG = 0.5
"""Evidence of at least this part of the strongest is inside an outline."""

_MOST = 3
_LEAST_SHARE = 0.1  # of all the strong evidence; smaller pieces are noise
_COARSENESS = 0.002  # of the longer side: an outline may leave the true border by this much
_ENOUGH_PX = 1024  # a longer side is sampled to between so many pixels and twice as many


def outlines(saliency: NDArray[np.float32], where: NDArray[np.bool_] | None = None) -> tuple[Outline, ...]:
    """Return closed polygons around the strong evidence, the one with most of it first, three at most.

    saliency: (y, x) float32 >= 0; where: (y, x), the places that count, None for all. A polygon is (column, row) points
    as Graphic Data counts them (PS3.3 C.10.5.1.2: the centre of the first pixel is 0.5, 0.5), the first repeated at the
    end. None when nothing is strong there.
    """
    strongest = float(saliency.max(initial=0.0))
    if strongest <= 0:
        return ()
    tolerance, step = _COARSENESS * max(saliency.shape), sampling(saliency.shape)
    saliency = saliency[::step, ::step]
    strong = saliency >= STRONG * strongest
    if where is not None:
        strong &= where[::step, ::step]
    left, top, width, height = cv2.boundingRect(strong.view(np.uint8))
    if not width:
        return ()
    box = slice(top, top + height), slice(left, left + width)
    inside = np.ascontiguousarray(strong[box])
    count, labels = cv2.connectedComponents(inside.view(np.uint8), connectivity=8)
    weights = np.bincount(labels[inside], weights=saliency[box][inside], minlength=count)
    least = _LEAST_SHARE * weights.sum()
    order = [int(n) for n in np.argsort(-weights, kind="stable") if weights[n] > 0 and weights[n] >= least][:_MOST]
    return tuple(found for found in (_around(labels == n, tolerance / step, left, top, step) for n in order) if found)


def sampling(shape: tuple[int, ...]) -> int:
    """Return the step at which evidence on (y, x) is looked at: it has no detail that would be lost."""
    return max(1, max(shape) // _ENOUGH_PX)


def _around(piece: NDArray[np.bool_], tolerance: float, left: int, top: int, step: int) -> Outline:
    """Return the outer border of one piece, moved by columns and rows, then scaled; () when it is too thin to have one."""
    borders, _ = cv2.findContours(piece.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    longest = max(borders, key=len) + np.array([left, top], np.int32)
    points = cv2.approxPolyDP(longest, tolerance, True).reshape(-1, 2).astype(np.float64) * step + 0.5
    if len(points) < 3:
        return ()
    closed = (*points.tolist(), points[0].tolist())
    return tuple((float(column), float(row)) for column, row in closed)
