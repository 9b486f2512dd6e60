"""Decode the chosen images, prepare them, and let the bundle look at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from service.domain import codes
from service.domain.codes import Code
from service.domain.finding import Assessment
from service.domain.manifest import Manifest
from service.domain.study import Kind, RadiographImage, Selection
from service.errors import Reason, UnusableStudy
from service.infer.ct import assess_ct
from service.infer.cxr import CxrTransform, assess_cxr
from service.infer.reading import CtTransform
from service.pipeline.accept import require_accepted
from service.pipeline.line import Line
from service.pipeline.timing import timed
from service.prepare import ct, cxr
from service.prepare.display import to_grey
from service.prepare.hounsfield import load_volume
from service.store.studies import StoredImage

_LEAST_PX = 128


@dataclass(frozen=True)
class Looked:
    """What a bundle said, the data sets it was said of (without pixels, in order), and radiographs as displayed."""

    assessment: Assessment
    sources: Sequence[Dataset]
    pictures: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


def look(line: Line, selection: Selection, images: Sequence[StoredImage]) -> Looked:
    """Run the active bundle for this kind of study. Raises: UnusableStudy; EngineUnavailable."""
    manifest = line.bundle_for(selection.kind)
    require_accepted(manifest, selection)
    files = {i.header.sop_instance_uid: line.spool_dir / i.path for i in images}
    paths = [files[h.sop_instance_uid] for h in selection.headers]
    if selection.kind is Kind.CT:
        return _look_at_ct(line, selection, paths, manifest)
    return _look_at_radiographs(line, selection, paths, manifest)


def _look_at_ct(line: Line, selection: Selection, paths: Sequence[Path], manifest: Manifest) -> Looked:
    if selection.geometry is None:
        raise ValueError("a CT selection has a geometry")
    with timed(line.metrics, "decode", "ct"):
        volume = load_volume(paths, selection.headers, selection.geometry)
    transform = CtTransform(
        partial(ct.slice_tensor, parameters=manifest.parameters, steps=manifest.steps), ct.restore)
    with timed(line.metrics, "infer", "ct"):
        assessment = assess_ct(
            volume, line.engine, manifest, transform, (*manifest.limitations, *selection.limitations),
            [h.sop_instance_uid for h in selection.headers])
    said = (*selection.limitations, *(t for t in assessment.limitations if t.startswith("incomplete coverage")))
    assessment = replace(assessment, quality=_quality(said))
    return Looked(assessment, [_without_pixels(p) for p in paths])


def _look_at_radiographs(line: Line, selection: Selection, paths: Sequence[Path], manifest: Manifest) -> Looked:
    """Score the radiographs that can be decoded; when none can, the first one's error is the study's."""
    shown: list[RadiographImage] = []
    notes: list[str] = []
    failed: list[UnusableStudy] = []
    with timed(line.metrics, "decode", "cxr"):
        for header, path in zip(selection.headers, paths, strict=True):
            try:
                image, found = to_grey(path)
                _require_size(image)
            except UnusableStudy as error:
                failed.append(error)
                notes.append(f"image {header.instance_number} was not read: {error.reason.value}")
            else:
                shown.append(image)
                notes.extend(found)
    if not shown:
        raise failed[0]
    transform = CxrTransform(
        partial(cxr.image_tensor, parameters=manifest.parameters, steps=manifest.steps),
        partial(cxr.saliency_on_source, parameters=manifest.parameters))
    limitations = dict.fromkeys((*manifest.limitations, *selection.limitations, *notes))
    with timed(line.metrics, "infer", "cxr"):
        assessment = assess_cxr(shown, line.engine, manifest, transform, tuple(limitations))
    assessment = replace(assessment, quality=_quality(notes))
    return Looked(assessment, [_without_pixels(p) for p in paths], {i.sop_instance_uid: i.grey for i in shown})


def _require_size(image: RadiographImage) -> None:
    rows, columns = image.grey.shape
    if min(rows, columns) < _LEAST_PX:
        raise UnusableStudy(Reason.IMAGE_TOO_SMALL, f"{rows} x {columns} pixels; accepted: at least {_LEAST_PX} a side")


def _quality(notes: Sequence[str]) -> Code:
    """Judge the images by the technical checks that they went through; what only limits the model does not count."""
    harmless = ("spacing unknown", "the view is not stated", "the patient is under 18")
    return codes.LIMITED_QUALITY if any(not n.startswith(harmless) for n in notes) else codes.DIAGNOSTIC_QUALITY


def _without_pixels(path: Path) -> Dataset:
    return dcmread(path, stop_before_pixels=True)
