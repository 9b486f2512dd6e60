"""Look at a CT: a segmentation reads it slice by slice, a coarse part of it first; then each bundle says what it found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from service.domain.finding import Assessment, together
from service.domain.manifest import Manifest
from service.domain.study import CtVolume, Selection, VolumeGeometry
from service.errors import Reason, UnusableStudy
from service.infer.ct import assess_ct, assess_read
from service.infer.ct_pattern import classify_ct
from service.infer.extent import lung_voxels
from service.infer.presentation import Presentation
from service.pipeline.accept import did_not_read
from service.pipeline.line import Line
from service.pipeline.shelf import SliceRead
from service.pipeline.slices_ct import Kept, SliceFile, SliceReader, Stack, filled, transform_of
from service.pipeline.technical import quality_of
from service.pipeline.timing import timed
from service.prepare import ct
from service.prepare.hounsfield import load_volume

_SEGMENTATION = "ct-segmentation"
_LEAST_STEP = 2  # fewer slices than half of all, or a first look saves nothing
_LEAST_SLICES = 10


@dataclass(frozen=True)
class Part:
    """What a first look has seen: so many slices of all, one of every `step`."""

    slices: int
    of: int
    step: int


@dataclass(frozen=True)
class Course:
    """How a look at a CT goes. known: slices that were read before; kept: is handed those that are read
    now; None: nobody is.

    first: is told what a first look says, before the whole one goes on, or what the whole one says where nothing was to be
    read; None: there is no first look.
    """

    known: Mapping[str, SliceRead] = field(default_factory=dict)
    kept: Kept | None = None
    first: Callable[[Assessment, Part], object] | None = None


PLAIN = Course()


def look_at_ct(line: Line, selection: Selection, files: Sequence[SliceFile], manifests: Sequence[Manifest],
               course: Course = PLAIN, read: Callable[[Mapping[str, Dataset]], object] = lambda sources: None) -> Assessment:
    """Let the bundles look at one volume; one that refuses it is named in a limitation.

    read: called when every slice has been decoded, and read by the segmentation where there is one, with the data sets that
    are at hand then, without pixels, by SOP Instance UID.
    Images without lung are refused for all, whatever a classifier would say.
    Raises: UnusableStudy when every bundle refuses; EngineUnavailable.
    """
    if selection.geometry is None:
        raise ValueError("a CT selection has a geometry")
    lead = leading(manifests)
    if lead is None:
        line.turns.has_told()  # nothing reads slice by slice: there is no first look
        with timed(line.metrics, "decode", "ct"):
            volume = load_volume([f.path for f in files], selection.headers, selection.geometry, line.decoder,
                                 line.most_decoded_bytes, line.turns.give_way)
        read({})
        with timed(line.metrics, "infer", "ct"):
            return _asked(line, selection, volume, manifests, None)
    with timed(line.metrics, "infer", "ct"):
        reader = SliceReader.of(line, lead, Presentation.of(selection.geometry),
                                (selection.geometry.rows, selection.geometry.columns))
        knows_all = all(reader.knows(file, course.known.get(file.header.sop_instance_uid)) for file in files)
        stack = _read(reader, selection.geometry, files, course, coarse_first=not knows_all)
        read(stack.sources)
        volume, said = stack.part(slice(None))
        say = partial(assess_read, volume, said, line.engine.identity(lead.name), lead,
                      (*lead.limitations, *selection.limitations), [h.sop_instance_uid for h in selection.headers],
                      line.turns.pause)
        whole = _asked(line, selection, volume, manifests, (lead, say))
    if course.first is not None and knows_all:
        course.first(whole, Part(len(files), len(files), 1))
    return whole


def leading(manifests: Sequence[Manifest]) -> Manifest | None:
    """Return the segmentation that reads slice by slice, ahead of all else; None where there is none."""
    return next((m for m in manifests if m.task == _SEGMENTATION), None)


def first_slices(geometry: VolumeGeometry, spacing_mm: float) -> slice | None:
    """Return the slices of a first look: so many that they lie up to spacing_mm apart; None when that would be most.

    Where they lie goes by their position, not by which is the first, so that they are the same ones while others come.
    """
    between_mm = geometry.spacing_mm[0]
    step = int(spacing_mm / between_mm + 1e-6)
    if step < _LEAST_STEP or len(geometry.positions_mm) < _LEAST_SLICES * step:
        return None
    return slice(-round(geometry.positions_mm[0] / between_mm) % step, None, step)


def _read(reader: SliceReader, geometry: VolumeGeometry, files: Sequence[SliceFile], course: Course,
          coarse_first: bool) -> Stack:
    """Read every slice. coarse_first: a first look goes before the rest; where all is known the whole one is as quick."""
    early, tell = first_slices(geometry, reader.line.first_look_mm), course.first
    if early is None or tell is None or not coarse_first:
        reader.line.turns.has_told()  # there is no first look: what it has to say comes at the end
        return filled(reader, files, geometry, course.known, kept=course.kept)
    seen = partial(_tell_first, reader, files, early, tell)
    return filled(reader, files, geometry, course.known, early, seen, course.kept)


def _tell_first(reader: SliceReader, files: Sequence[SliceFile], early: slice, tell: Callable[[Assessment, Part], object],
                stack: Stack) -> None:
    """Say what the slices of a first look show; where they cannot be read as a volume, the whole look decides."""
    try:
        volume, read = stack.part(early, early.step * stack.geometry.spacing_mm[0])
        said = assess_read(volume, read, reader.bundle, reader.manifest, (),
                           [file.header.sop_instance_uid for file in files[early]], reader.line.turns.pause)
    except UnusableStudy:
        reader.line.turns.has_told()
        return
    tell(said, Part(len(volume.hu), len(files), early.step))


def _asked(line: Line, selection: Selection, volume: CtVolume, manifests: Sequence[Manifest],
           lead: tuple[Manifest, Callable[[], Assessment]] | None) -> Assessment:
    """Ask each bundle, segmentations first, for classifiers use their lungs. lead: one that has read all, and its answer."""
    said: dict[str, Assessment] = {}
    refused: dict[str, UnusableStudy] = {}
    lung: NDArray[np.int64] | None = None
    for manifest in sorted(manifests, key=lambda m: m.task != _SEGMENTATION):
        try:
            found = lead[1]() if lead and manifest is lead[0] else _ask(line, selection, volume, manifest, lung)
            said[manifest.name] = found
        except UnusableStudy as error:
            if error.reason is Reason.NO_LUNG_FOUND:
                raise
            refused[manifest.name] = error
        else:
            lung = lung_voxels(found.masks) if lung is None and found.masks is not None else lung
    if not said:
        raise next(refused[m.name] for m in manifests)
    whole = together([said[m.name] for m in manifests if m.name in said])
    notes = [did_not_read(m, refused[m.name]) for m in manifests if m.name in refused]
    technical = (*selection.limitations, *(t for t in whole.limitations if t.startswith("incomplete coverage")))
    return replace(whole, limitations=(*whole.limitations, *notes), quality=quality_of(technical))


def _ask(
    line: Line, selection: Selection, volume: CtVolume, manifest: Manifest, lung: NDArray[np.int64] | None,
) -> Assessment:
    limitations = (*manifest.limitations, *selection.limitations)
    uids = [h.sop_instance_uid for h in selection.headers]
    if manifest.task == _SEGMENTATION:
        return assess_ct(volume, line.engine, manifest, transform_of(manifest), limitations, uids)
    to_tensor = partial(ct.slice_tensor, parameters=manifest.parameters, steps=manifest.steps)
    return classify_ct(volume, line.engine, manifest, to_tensor, limitations, uids, lung)
