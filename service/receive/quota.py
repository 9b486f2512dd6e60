"""How much one study may bring: most images and most bytes, so that one sender cannot fill the disk with one UID."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from service.errors import OutOfSpace, Reason

_REMEMBERED = 64


@dataclass
class _Held:
    """What is known of one study: the size of each image, and of all."""

    sizes: dict[str, int]
    size_bytes: int
    is_told: bool = False


class Quota:
    """Counts the images of each study, duplicates once. Safe to share between threads.

    held: returns the size in bytes of each image of a study that has a row, by SOP Instance UID; asked when a study is
    first seen, and again when many others came between. told: hears, once for each study, that it is full, in words.
    Processes that receive into one database count each for itself what comes after that.
    """

    def __init__(self, most_images: int, most_bytes: int, held: Callable[[str], Mapping[str, int]],
                 told: Callable[[str, str], object]) -> None:
        self._most_images, self._most_bytes, self._held, self._told = most_images, most_bytes, held, told
        self._studies: OrderedDict[str, _Held] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, study_instance_uid: str, sop_instance_uid: str, size_bytes: int) -> None:
        """Count one more image before it is kept.  Raises: OutOfSpace (study_too_large), Unavailable."""
        with self._lock:
            study = self._of(study_instance_uid)
            if sop_instance_uid in study.sizes:
                return
            images, total_bytes = len(study.sizes) + 1, study.size_bytes + size_bytes
            if images <= self._most_images and total_bytes <= self._most_bytes:
                study.sizes[sop_instance_uid] = size_bytes
                study.size_bytes = total_bytes
                return
            is_told, study.is_told = study.is_told, True
        text = (f"{images} images, {total_bytes} bytes; one study may have {self._most_images} images and "
                f"{self._most_bytes} bytes")
        if not is_told:
            self._told(study_instance_uid, text)
        raise OutOfSpace(Reason.STUDY_TOO_LARGE, text)

    def _of(self, study_instance_uid: str) -> _Held:
        study = self._studies.get(study_instance_uid)
        if study is None:
            sizes = dict(self._held(study_instance_uid))
            study = self._studies[study_instance_uid] = _Held(sizes, sum(sizes.values()))
            if len(self._studies) > _REMEMBERED:
                self._studies.popitem(last=False)
        self._studies.move_to_end(study_instance_uid)
        return study
