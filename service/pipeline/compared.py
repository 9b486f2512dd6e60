"""Which stored images hold the same pixels: remembered, for a study is judged when it is complete and again in its job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.domain.study import Header
from service.prepare.codestream import FrameDecoder, decode_frame
from service.prepare.pixels import decode
from service.store.files import Files
from service.store.studies import StoredImage

_MOST = 20_000


class Comparison:
    """Compares the pixels of images, each pair of contents once. Several threads may ask."""

    def __init__(self, spool_dir: Files | Path, decoder: FrameDecoder = decode_frame) -> None:
        self._spool_dir, self._decoder = spool_dir, decoder
        self._answers: dict[tuple[tuple[str, int], ...], bool] = {}

    def of(self, images: list[StoredImage]) -> Callable[[Header, Header], bool]:
        """Return a function that tells whether two of these images hold the same pixels."""
        stored = {i.header.sop_instance_uid: i for i in images}

        def same(one: Header, other: Header) -> bool:
            key = tuple(sorted((stored[h.stored_uid].sha256, h.frame_number or 1) for h in (one, other)))
            answer = self._answers.get(key)
            if answer is None:
                first, second = (self._pixels(stored[h.stored_uid], h.frame_number or 1) for h in (one, other))
                answer = np.array_equal(first, second)
                if len(self._answers) >= _MOST:
                    self._answers.clear()
                self._answers[key] = answer
            return answer

        return same

    def _pixels(self, image: StoredImage, frame_number: int) -> NDArray[Any]:
        return decode(self._spool_dir / image.path, frame_number - 1, self._decoder)
