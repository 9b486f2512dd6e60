"""Decode the chosen images, prepare them, and let the bundle look at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from service.domain.finding import Assessment
from service.domain.study import Kind, Selection
from service.pipeline.line import Line
from service.store.studies import StoredImage


@dataclass(frozen=True)
class Looked:
    """What a bundle said, the data sets it was said of (without pixels, in order), and radiographs as displayed."""

    assessment: Assessment
    sources: Sequence[Dataset]
    pictures: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


def look(line: Line, selection: Selection, images: Sequence[StoredImage]) -> Looked:
    """Run the active bundle for this kind of study. Raises: UnusableStudy; EngineUnavailable."""
    manifest = line.bundle_for(selection.kind)
    paths = {i.header.sop_instance_uid: line.spool_dir / i.path for i in images}
    chosen = [paths[h.sop_instance_uid] for h in selection.headers]
    if selection.kind is Kind.CT:
        return _look_at_ct(line, selection, chosen, manifest)
    return _look_at_radiographs(line, selection, chosen, manifest)
