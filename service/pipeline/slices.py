"""CT slices as a reader sees them, decoded only when a picture of one is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.domain.study import Selection
from service.prepare.hounsfield import load_volume

_LUNG_WINDOW_HU = (-1350.0, 150.0)


class SlicePictures(Mapping[str, NDArray[np.float32]]):
    """The slices of a selection by SOP Instance UID: (y, x) float32 0..1 in the lung window, on the source grid."""

    def __init__(self, selection: Selection, paths: Sequence[Path]) -> None:
        if selection.geometry is None:
            raise ValueError("a CT selection has a geometry")
        self._geometry = selection.geometry
        self._files = {h.sop_instance_uid: (p, h) for h, p in zip(selection.headers, paths, strict=True)}

    def __getitem__(self, uid: str) -> NDArray[np.float32]:
        """Decode one slice. Raises: UnusableStudy when it cannot be; OSError when its file is gone."""
        path, header = self._files[uid]
        low, high = _LUNG_WINDOW_HU
        shown: NDArray[np.float32] = np.clip(
            (load_volume([path], [header], self._geometry).hu[0] - low) / (high - low), 0.0, 1.0)
        return shown

    def __contains__(self, uid: object) -> bool:
        return uid in self._files

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)
