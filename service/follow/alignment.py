"""Lay two studies over each other by the masks of their lungs: a shift and a small rotation, nothing is stretched.

The lungs are looked up on a lattice of a few millimetres. The shift at which most of them lie over each other is found by
correlation, which does not mind that one scan shows less of them; then shift and rotation are refined so that the surface
of one lies on that of the other, where a part of it that has no counterpart (breath, a scan that ends) has little weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize, signal
from scipy.spatial.transform import Rotation

from service.domain.lesion import Alignment
from service.follow.grid import Grid, Points

LEAST_OVERLAP = 0.8
"""Share of the smaller lungs that must lie in the other ones for an alignment to be believed."""
MOST_ROTATION_DEG = 25.0
_STEP_MM = 4.0
_MARGIN = 6  # lattice steps around the lungs
_SURFACE = 2500  # points
_LOOSE_MM = 6.0  # a surface further apart than this counts less and less


@dataclass(frozen=True, eq=False)
class Rigid:
    """A motion from the patient coordinates of one study to those of another: about a centre, then a shift, mm."""

    rotation: Rotation
    centre: Points
    shift: Points

    def moved(self, places: Points) -> Points:
        """Return (n, 3) places of the one study in the other."""
        turned: Points = self.rotation.apply(places - self.centre) + self.centre + self.shift
        return turned

    @property
    def rotation_deg(self) -> float:
        """The angle of the rotation, degrees."""
        return float(np.degrees(self.rotation.magnitude()))


@dataclass(frozen=True, eq=False)
class _Lattice:
    """Lungs on a lattice. corner: of its first point, mm; lungs: (x, y, z)."""

    corner: Points
    lungs: NDArray[np.bool_]

    def places(self, indices: NDArray[np.intp]) -> Points:
        placed: Points = self.corner + indices * _STEP_MM
        return placed


def align(now: NDArray[np.bool_], now_grid: Grid, then: NDArray[np.bool_], then_grid: Grid) -> tuple[Rigid, Alignment]:
    """Find the motion that carries the lungs of now to those of then.

    now, then: (z, y, x) masks of both lungs, not empty, each on its grid. Whether to believe it is for `believed` to say.
    """
    here, there = _lattice(now, now_grid), _lattice(then, then_grid)
    inside = here.places(np.argwhere(here.lungs))
    centre = inside.mean(axis=0)
    depth = _depth(there.lungs)
    surface = _surface(here)

    def motion(parameters: NDArray[np.float64]) -> Rigid:
        return Rigid(Rotation.from_rotvec(parameters[:3]), centre, parameters[3:])

    def away(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        index = (motion(parameters).moved(surface) - there.corner) / _STEP_MM
        distance: NDArray[np.float64] = ndimage.map_coordinates(depth, index.T, order=1, mode="nearest")
        return distance

    start = np.concatenate((np.zeros(3), _shift(here, there)))
    scale = np.array([0.01, 0.01, 0.01, 1.0, 1.0, 1.0])
    found = optimize.least_squares(away, start, loss="soft_l1", f_scale=_LOOSE_MM, x_scale=scale, ftol=1e-4,
                                   xtol=1e-4, max_nfev=40)
    best = motion(found.x)
    both = np.count_nonzero(there_at(there, best.moved(inside)))
    smaller = min(len(inside), int(np.count_nonzero(there.lungs)))
    shift_mm = float(np.linalg.norm(best.shift))
    return best, Alignment(round(float(both / smaller), 3), round(shift_mm, 1), round(best.rotation_deg, 1))


def believed(alignment: Alignment) -> bool:
    """Tell whether an alignment is good enough to say which lesion is which."""
    return alignment.overlap >= LEAST_OVERLAP and alignment.rotation_deg <= MOST_ROTATION_DEG


def there_at(there: _Lattice, places: Points) -> NDArray[np.bool_]:
    """Tell which places lie in the lungs of a lattice."""
    index = np.rint((places - there.corner) / _STEP_MM).astype(np.intp)
    inside = ((index >= 0) & (index < np.asarray(there.lungs.shape))).all(axis=1)
    index[~inside] = 0
    return inside & there.lungs[index[:, 0], index[:, 1], index[:, 2]]


def _lattice(lungs: NDArray[np.bool_], grid: Grid) -> _Lattice:
    """Look lungs up on a lattice around them."""
    steps = [max(1, int(_STEP_MM / mm)) for mm in grid.spacing_mm]
    marked = np.argwhere(lungs[::steps[0], ::steps[1], ::steps[2]]) * steps
    places = grid.places(marked)
    low, high = places.min(axis=0) - _MARGIN * _STEP_MM, places.max(axis=0) + _MARGIN * _STEP_MM
    axes = [np.arange(a, b, _STEP_MM) for a, b in zip(low, high, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    return _Lattice(low, grid.values(lungs, points).reshape([len(a) for a in axes]).astype(np.bool_))


def _shift(here: _Lattice, there: _Lattice) -> Points:
    """Return the shift, mm, at which most of the lungs lie over each other."""
    overlap = signal.correlate(there.lungs.astype(np.float32), here.lungs.astype(np.float32), mode="full", method="fft")
    peak = np.asarray(np.unravel_index(int(overlap.argmax()), overlap.shape)) - (np.asarray(here.lungs.shape) - 1)
    shift: Points = there.corner + peak * _STEP_MM - here.corner
    return shift


def _depth(lungs: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return how far each point lies outside (above 0) or inside (below 0) the surface, mm."""
    outside = ndimage.distance_transform_edt(~lungs) * _STEP_MM
    inside = ndimage.distance_transform_edt(lungs) * _STEP_MM
    depth: NDArray[np.float64] = outside - inside
    return depth


def _surface(here: _Lattice) -> Points:
    edge = here.lungs & ~ndimage.binary_erosion(here.lungs)
    points = here.places(np.argwhere(edge))
    return points[:: max(1, len(points) // _SURFACE)]
