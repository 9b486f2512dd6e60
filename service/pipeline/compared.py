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
from service.store.studies import StoredImage

_MOST = 20_000


class Comparison:
    """Compares the pixels of images, each pair of contents once. Several threads may ask."""

    def __init__(self, spool_dir: Path, decoder: FrameDecoder = decode_frame) -> None:
        self._spool_dir, self._decoder = spool_dir, decoder
        self._answers: dict[tuple[str, str], bool] = {}

    def of(self, images: list[StoredImage]) -> Callable[[Header, Header], bool]:
        """Return a function that tells whether two of these images hold the same pixels."""
        stored = {i.header.sop_instance_uid: i for i in images}

        def same(one: Header, other: Header) -> bool:
            first, second = sorted((stored[one.sop_instance_uid], stored[other.sop_instance_uid]), key=lambda i: i.sha256)
            key = (first.sha256, second.sha256)
            answer = self._answers.get(key)
            if answer is None:
                answer = np.array_equal(self._pixels(first), self._pixels(second))
                if len(self._answers) >= _MOST:
                    self._answers.clear()
                self._answers[key] = answer
            return answer

        return same

    def _pixels(self, image: StoredImage) -> NDArray[Any]:
        return decode(self._spool_dir / image.path, decoder=self._decoder)
