"""The frames of stored enhanced CT images: remembered, for a study is judged when it is complete and again in its job."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from pydicom import dcmread
from pydicom.dataset import Dataset

from service.domain.study import Header
from service.errors import Reason, UnusableStudy
from service.prepare.frames import frame_datasets, frame_headers
from service.store.files import Files
from service.store.studies import StoredImage

_NONE: Mapping[str, Dataset] = MappingProxyType({})
_MOST = 16  # images; each has some hundred frames


class Frames:
    """Looks into multi-frame images, into each once. Several threads may ask."""

    def __init__(self, spool_dir: Files | Path) -> None:
        self._spool_dir = spool_dir
        self._known: dict[str, tuple[Header, ...]] = {}

    def of(self, images: Sequence[StoredImage]) -> Callable[[Header], Sequence[Header]]:
        """Return a function that gives the frames of one of these images.  It raises UnusableStudy."""
        stored = {i.header.sop_instance_uid: i for i in images}

        def frames(header: Header) -> Sequence[Header]:
            image = stored[header.sop_instance_uid]
            if not image.path:
                raise UnusableStudy(Reason.IMAGES_DELETED)
            found = self._known.get(image.sha256)
            if found is None:
                found = frame_headers(self._spool_dir / image.path, header)
                if len(self._known) >= _MOST:
                    self._known.clear()
                self._known[image.sha256] = found
            return found

        return frames


def read_sources(paths: Sequence[Path], headers: Sequence[Header], known: Mapping[str, Dataset] = _NONE) -> list[Dataset]:
    """Return the data sets of chosen images without pixels, in their order; of a frame, one as if it were an image.

    known: those that are at hand, by SOP Instance UID; the others are read.
    """
    frames: dict[Path, list[Header]] = {}
    for path, header in zip(paths, headers, strict=True):
        if header.frame_number:
            frames.setdefault(path, []).append(header)
    made = {h.sop_instance_uid: ds for path, wanted in frames.items()
            for h, ds in zip(wanted, frame_datasets(path, wanted), strict=True)}
    there = {**known, **made}
    return [there[header.sop_instance_uid] if header.sop_instance_uid in there else dcmread(path, stop_before_pixels=True)
            for path, header in zip(paths, headers, strict=True)]
