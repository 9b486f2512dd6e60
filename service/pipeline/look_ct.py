"""Decode a CT volume once, and let each CT bundle look at it: segmentations first, for classifiers use their lungs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.domain.finding import Assessment, together
from service.domain.manifest import Manifest
from service.domain.study import CtVolume, Selection
from service.errors import Reason, UnusableStudy
from service.infer.ct import assess_ct
from service.infer.ct_pattern import classify_ct
from service.infer.extent import lung_voxels
from service.infer.reading import CtTransform
from service.pipeline.accept import did_not_read
from service.pipeline.line import Line
from service.pipeline.technical import quality_of
from service.pipeline.timing import timed
from service.prepare import ct
from service.prepare.hounsfield import load_volume

_SEGMENTATION = "ct-segmentation"


def look_at_ct(line: Line, selection: Selection, paths: Sequence[Path], manifests: Sequence[Manifest]) -> Assessment:
    """Let the bundles look at one volume; one that refuses it is named in a limitation.

    Images without lung are refused for all, whatever a classifier would say.
    Raises: UnusableStudy when every bundle refuses; EngineUnavailable.
    """
    if selection.geometry is None:
        raise ValueError("a CT selection has a geometry")
    with timed(line.metrics, "decode", "ct"):
        volume = load_volume(paths, selection.headers, selection.geometry, line.decoder, line.most_decoded_bytes,
                             line.turns.give_way)
    said: dict[str, Assessment] = {}
    refused: dict[str, UnusableStudy] = {}
    lung: NDArray[np.int64] | None = None
    with timed(line.metrics, "infer", "ct"):
        for manifest in sorted(manifests, key=lambda m: m.task != _SEGMENTATION):
            try:
                said[manifest.name] = found = _ask(line, selection, volume, manifest, lung)
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
    to_tensor = partial(ct.slice_tensor, parameters=manifest.parameters, steps=manifest.steps)
    limitations = (*manifest.limitations, *selection.limitations)
    uids = [h.sop_instance_uid for h in selection.headers]
    if manifest.task == _SEGMENTATION:
        return assess_ct(volume, line.engine, manifest, CtTransform(to_tensor, ct.restore), limitations, uids)
    return classify_ct(volume, line.engine, manifest, to_tensor, limitations, uids, lung)
