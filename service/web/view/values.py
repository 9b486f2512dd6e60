"""The values of the images, ready to be drawn: HU of CT slices, grey of radiographs, planes through a volume."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from service.domain.study import Header
from service.prepare.codestream import FrameDecoder
from service.prepare.display import to_grey
from service.prepare.hounsfield import AIR_HU, to_hu
from service.prepare.padding import padded
from service.prepare.pixels import decode, read
from service.store.files import Files
from service.web.view.stacks import Stack, is_ct

LONGEST_PX = 1536
"""Of a radiograph on the page; the site's viewer shows every pixel."""

WHITE = 4095
"""Of a radiograph's values; 0 is black."""

MOST_VOXELS = 96 * 2**20
"""Of a volume that is kept; a larger one is kept at half the resolution within its slices."""

_KEPT = 2

Values = NDArray[np.int16]
Bits = NDArray[np.uint8]


def values(source: Path | Dataset, header: Header, decoder: FrameDecoder) -> Values:
    """Return one image: (y, x) int16, HU of a CT slice; of a radiograph 0 to WHITE as its own window shows it, made smaller
    where it is longer than LONGEST_PX. source: a data set, or the path of a file.

    Raises: UnusableStudy for pixels that cannot be read; OSError when the file is gone.
    """
    if is_ct(header):
        return _hu(source, header, decoder)
    grey = to_grey(source, decoder)[0].grey
    width, height = fitted(grey.shape[1], grey.shape[0])
    small = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA) if width < grey.shape[1] else grey
    return np.rint(np.clip(small, 0.0, 1.0) * WHITE).astype(np.int16)


def fitted(width: int, height: int) -> tuple[int, int]:
    """Return the size at which a radiograph is shown, pixels."""
    scale = min(1.0, LONGEST_PX / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _hu(source: Path | Dataset, header: Header, decoder: FrameDecoder) -> Values:
    dataset = read(source) if isinstance(source, Path) else source
    stored = decode(dataset, (header.frame_number or 1) - 1, decoder)
    hu = to_hu(stored, header.rescale_slope, header.rescale_intercept)
    outside = padded(stored, dataset)
    if outside is not None:
        hu[outside] = AIR_HU
    return np.rint(np.minimum(hu, 32767.0, out=hu)).astype(np.int16)


@dataclass(frozen=True, eq=False)
class Volume:
    """A CT series, from head to feet: hu (z, y, x) int16; marks (z, y, x) uint8, segment n is the bit 1 << (n - 1), or None.

    step: every how many pixels of a slice are kept.
    """

    hu: Values
    marks: Bits | None
    step: int


class Volumes:
    """The volumes that were looked at last. One is made at a time; who asks for it meanwhile waits for it."""

    def __init__(self) -> None:
        self._kept: OrderedDict[object, Volume] = OrderedDict()
        self._lock = threading.Lock()

    def volume(self, key: object, make: Callable[[], Volume]) -> Volume:
        """Return a volume that was made before, or make it. Raises: what `make` raises."""
        found = self._kept.get(key)
        if found is not None:
            return found
        with self._lock:
            if key not in self._kept:
                self._kept[key] = make()
                while len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]


def step_of(stack: Stack) -> int:
    """Return every how many pixels of a slice a volume keeps."""
    first = stack.images[0].header
    voxels = len(stack.images) * (first.rows or 0) * (first.columns or 0)
    return 1 if voxels <= MOST_VOXELS else 2 if voxels <= 4 * MOST_VOXELS else 4


def load(stack: Stack, spool_dir: Files | Path, decoder: FrameDecoder, marks: Callable[[Header], Bits | None]) -> Volume:
    """Decode a stack into a volume. marks: the segments of an image, (y, x); None: of none.

    Raises: as `values`.
    """
    step, first = step_of(stack), stack.images[0].header
    shape = (len(stack.images), -(-(first.rows or 0) // step), -(-(first.columns or 0) // step))
    if not isinstance(spool_dir, Path):
        spool_dir.bring(i.path for i in stack.images)
    whole = {i.path: read(spool_dir / i.path) for i in stack.images if i.header.frame_number}
    hu, bits = np.full(shape, np.int16(AIR_HU), np.int16), np.zeros(shape, np.uint8)

    def fill(z: int) -> None:
        image = stack.images[z]
        hu[z] = values(whole.get(image.path, spool_dir / image.path), image.header, decoder)[::step, ::step]
        marked = marks(image.header)
        if marked is not None:
            bits[z] = marked[::step, ::step]

    for z in range(shape[0]):  # one after the other, so that a decoding process is left for the models' studies
        fill(z)
    return Volume(hu, bits if bits.any() else None, step)


def cut(volume: NDArray[np.generic], plane: str, index: int, stack: Stack) -> NDArray[np.generic]:
    """Return a plane through a volume: (z, x) of a coronal one, patient's right on the left; (z, y) of a sagittal one,
    front on the left. Raises: IndexError where there is no such plane."""
    if index < 0:
        raise IndexError(index)
    orientation = stack.geometry.orientation if stack.geometry else (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    shown = volume[:, index] if plane == "coronal" else volume[:, :, index]
    backward = orientation[0] < 0 if plane == "coronal" else orientation[4] < 0
    return np.ascontiguousarray(shown[:, ::-1] if backward else shown)
