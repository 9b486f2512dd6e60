"""Let the bundles look at the chosen images of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from service.domain.finding import Assessment
from service.domain.manifest import Manifest
from service.domain.study import Kind, Selection
from service.pipeline.accept import accepting
from service.pipeline.beside import Beside
from service.pipeline.frames import read_sources
from service.pipeline.line import Line
from service.pipeline.look_ct import PLAIN, Course, look_at_ct
from service.pipeline.look_cxr import look_at_radiographs
from service.pipeline.slices import SlicePictures
from service.pipeline.slices_ct import SliceFile
from service.store.studies import StoredImage


@dataclass(frozen=True)
class Looked:
    """What the bundles said, the data sets it was said of (without pixels, in order), and the images as displayed.

    bundles: the digests of the active bundles when they looked.
    """

    assessment: Assessment
    sources: Sequence[Dataset]
    pictures: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    bundles: tuple[str, ...] = ()


def look(line: Line, selection: Selection, images: Sequence[StoredImage],
         bundles: Sequence[Manifest] | None = None, course: Course = PLAIN) -> Looked:
    """Run the active bundles for this kind of study, or others; those that may not read it are named in a limitation.

    course: how a look at a CT goes, what is known of it already.
    Raises: UnusableStudy when no bundle may, or can, read it; EngineUnavailable.
    """
    manifests, notes = accepting(line.bundles_for(selection.kind) if bundles is None else bundles, selection)
    stored = {i.header.sop_instance_uid: i for i in images}
    chosen = [SliceFile(header, line.spool_dir / image.path, image.sha256)
              for header, image in ((h, stored[h.stored_uid]) for h in selection.headers)]
    paths = [file.path for file in chosen]
    pictures: Mapping[str, NDArray[np.float32]] = {}
    there: dict[str, Dataset] = {}
    with Beside(partial(read_sources, paths, selection.headers, there)) as sources:
        def read(known: Mapping[str, Dataset]) -> None:
            there.update(known)
            sources.begin()

        if selection.kind is Kind.CT:
            assessment = look_at_ct(line, selection, chosen, manifests, course, read)
            pictures = SlicePictures(selection, paths)
        else:
            assessment, pictures = look_at_radiographs(line, selection, paths, manifests)
        found = sources.result()
    assessment = replace(assessment, limitations=tuple(dict.fromkeys((*assessment.limitations, *notes))))
    return Looked(assessment, found, pictures, bundles_here(line, selection.kind))


def bundles_here(line: Line, kind: Kind) -> tuple[str, ...]:
    """Return the digests of the active bundles for a kind of study."""
    return tuple(line.engine.identity(m.name).digest for m in line.bundles_for(kind))
