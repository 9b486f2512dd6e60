"""Decode slices of a CT and let a segmentation read them, a few at a time: one beside the other, not one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from service.domain.finding import BundleIdentity
from service.domain.manifest import Manifest
from service.domain.room import Room
from service.domain.study import CtVolume, Header, VolumeGeometry
from service.infer.networks import Run
from service.infer.presentation import Presentation
from service.infer.reading import CtTransform, Read, read_chunk
from service.infer.tidy import each
from service.pipeline.beside import Beside
from service.pipeline.line import Line
from service.pipeline.shelf import MOST_SOURCE_BYTES, SliceRead
from service.prepare import ct
from service.prepare.hounsfield import check_plausible, read_whole, slice_hu
from service.prepare.pixels import element, read_all, require_room, without_pixels


@dataclass(frozen=True)
class SliceFile:
    """One slice as it lies in the spool. sha256: of its data set; of a frame, that of the whole."""

    header: Header
    path: Path
    sha256: str


Kept = Callable[[str, SliceRead], object]
"""Is handed each slice as soon as it is read, with its SOP Instance UID."""
Placed = Callable[[str], NDArray[np.float32]]
"""Gives the place that a slice is decoded into, (y, x), by its SOP Instance UID."""


@dataclass(frozen=True)
class SliceReader:
    """Reads slices of one series. bundle: whose network it is; presentation: how slices are turned for it.

    shape: rows and columns that each slice must have.
    """

    line: Line
    manifest: Manifest
    bundle: BundleIdentity
    presentation: Presentation
    shape: tuple[int, int]

    @classmethod
    def of(cls, line: Line, manifest: Manifest, presentation: Presentation, shape: tuple[int, int]) -> SliceReader:
        """Return the reader of a segmentation.  Raises: EngineUnavailable."""
        return cls(line, manifest, line.engine.identity(manifest.name), presentation, shape)

    def knows(self, file: SliceFile, one: SliceRead | None) -> bool:
        """Tell whether a slice that was read before is this one, read as it would be now."""
        return one is not None and (one.sha256, one.digest, one.presentation, one.hu.shape) == (
            file.sha256, self.bundle.digest, self.presentation, self.shape)

    def read(self, files: Iterable[SliceFile], kept: Kept, placed: Placed | None = None) -> float:
        """Decode and read slices, several chunks at once; returns the seconds of decoding, summed over the threads.

        placed: where each is decoded into; None: into memory of its own.
        Raises: UnusableStudy, OSError as `load_volume`; EngineUnavailable.
        """
        wanted, batch = list(files), self.line.engine.batch(self.manifest.name)
        whole = read_whole([f.path for f in wanted], [f.header for f in wanted])
        chunks = [wanted[k:k + batch] for k in range(0, len(wanted), batch)]
        return sum(self.line.engine.spread(self.manifest.name, partial(self._chunk, kept, placed, whole), chunks))

    def _chunk(self, kept: Kept, placed: Placed | None, whole: Mapping[Path, Dataset], run: Run,
               files: Sequence[SliceFile]) -> float:
        began = time.perf_counter()
        read = [whole[f.path] if f.path in whole else read_all(f.path) for f in files]
        hu = [slice_hu(dataset, f.header, self.shape, self.line.decoder,
                       placed(f.header.sop_instance_uid) if placed is not None else None)
              for dataset, f in zip(read, files, strict=True)]
        sources = [None if f.path in whole else _source(dataset, f.path) for dataset, f in zip(read, files, strict=True)]
        decoded_s = time.perf_counter() - began
        found = read_chunk([self.presentation.turn(one) for one in hu], run, self.manifest.name, transform_of(self.manifest))
        for k, file in enumerate(files):
            beside = {name: values[k:k + 1] for name, values in found.beside.items()}
            kept(file.header.sop_instance_uid, SliceRead(
                file.sha256, self.bundle.digest, self.presentation, hu[k], found.classes[k], beside, sources[k]))
        return decoded_s


def _source(dataset: Dataset, path: Path) -> Dataset | None:
    """Return a data set without its pixels; None where what else it holds is too much to keep: it is read again then."""
    others = path.stat().st_size - len(element(dataset, "PixelData"))
    return without_pixels(dataset) if others <= MOST_SOURCE_BYTES else None


class Stack:
    """A volume that fills with slices as they are read. Safe to be filled from several threads.

    sources: the data sets of its slices, without pixels, by SOP Instance UID; not of frames.
    """

    def __init__(self, files: Sequence[SliceFile], geometry: VolumeGeometry, presentation: Presentation, room: Room) -> None:
        self._places = {file.header.sop_instance_uid: k for k, file in enumerate(files)}
        self.geometry = geometry
        self.hu: NDArray[np.float32] = room.empty((len(files), geometry.rows, geometry.columns), np.float32)
        self.classes: NDArray[np.uint8] = room.empty(presentation.turn(self.hu).shape, np.uint8)
        self._beside: list[dict[str, NDArray[Any]]] = [{} for _ in files]
        self.sources: dict[str, Dataset] = {}

    def add(self, uid: str, one: SliceRead) -> None:
        """Put a slice into its place."""
        k = self._places[uid]
        self.classes[k], self._beside[k] = one.classes, one.beside
        if one.source is not None:
            self.sources[uid] = one.source
        if not np.may_share_memory(one.hu, self.hu):  # else it was decoded there
            self.hu[k] = one.hu

    def placed(self, uid: str) -> NDArray[np.float32]:
        """Return the place of a slice, (y, x), for it to be decoded into."""
        place: NDArray[np.float32] = self.hu[self._places[uid]]
        return place

    def part(self, numbers: slice, spacing_mm: float | None = None) -> tuple[CtVolume, Read]:
        """Return some of its slices, all of which must be there, as a volume and as what the network said of them.

        spacing_mm: between them, where it is not that of all. Raises: UnusableStudy when the values cannot be HU.
        """
        check_plausible(self.hu[numbers])
        whole = self.geometry
        geometry = VolumeGeometry(
            whole.positions_mm[numbers], (spacing_mm or whole.spacing_mm[0], *whole.spacing_mm[1:]), whole.orientation,
            whole.normal, whole.rows, whole.columns, whole.frame_of_reference_uid, whole.varies)
        said = self._beside[numbers]
        beside = {name: np.concatenate([one[name] for one in said]) for name in said[0]}
        return CtVolume(self.hu[numbers], geometry), Read(self.classes[numbers], beside)


def filled(reader: SliceReader, files: Sequence[SliceFile], geometry: VolumeGeometry, known: Mapping[str, SliceRead],
           first: slice | None = None, seen: Callable[[Stack], object] = lambda stack: None,
           kept: Kept | None = None) -> Stack:
    """Read all slices of a series into a stack; what is known is not read again.

    first: slices that are read before the others; then `seen` is called with the stack, on a thread of its own while the
    others are read. kept: is handed what was read, each slice in memory of its own; None: nothing is kept.
    Raises: UnusableStudy, OSError as `load_volume`, too many voxels among them; EngineUnavailable.
    """
    require_room(len(files) * geometry.rows * geometry.columns, reader.line.most_decoded_bytes)
    stack = Stack(files, geometry, reader.presentation, reader.line.room)
    there = {uid: one for file in files for uid in (file.header.sop_instance_uid,)
             if (one := known.get(uid)) is not None and reader.knows(file, one)}
    uids = list(there)
    each(lambda k: stack.add(uids[k], there[uids[k]]), range(len(uids)))
    missing = [file for file in files if file.header.sop_instance_uid not in there]

    awaited = {file.header.sop_instance_uid for file in files[first]} - there.keys() if first is not None else set()
    missing.sort(key=lambda f: f.header.sop_instance_uid not in awaited)  # the others stay in order
    with Beside(partial(seen, stack)) as told:
        def look() -> None:
            if first is not None and not awaited:
                told.begin()

        def add(uid: str, one: SliceRead) -> None:
            stack.add(uid, one)
            if kept is not None:
                kept(uid, one)
            awaited.discard(uid)
            look()

        look()
        decoded_s = reader.read(missing, add, stack.placed if kept is None else None)
        if first is not None:
            told.result()
    reader.line.metrics.stage_seconds.labels("decode", "ct").observe(decoded_s)
    return stack


def transform_of(manifest: Manifest) -> CtTransform:
    """Return how slices are prepared for a segmentation, and brought back."""
    return CtTransform(partial(ct.slice_tensor, parameters=manifest.parameters, steps=manifest.steps), ct.restore)
