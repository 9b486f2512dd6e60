"""Decode the radiographs of a study, let the gate judge them, find their lung fields, and let each bundle look."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.assemble.frontal import is_from_the_front
from service.domain import codes
from service.domain.finding import Assessment, BundleIdentity, together
from service.domain.manifest import Manifest
from service.domain.study import Header, RadiographImage, Selection, age_years
from service.errors import DecoderFailed, Reason, UnusableStudy
from service.infer.cxr import CxrTransform, assess_cxr
from service.infer.fields import FieldsTransform, LungFields, find_fields
from service.infer.quality import CHILD, Judged, judge
from service.pipeline.accept import did_not_read
from service.pipeline.line import Line
from service.pipeline.technical import quality_of
from service.pipeline.timing import timed
from service.prepare import cxr
from service.prepare.display import to_grey
from service.prepare.pixels import require_room

_LEAST_PX = 128
_MOST_FAILURES = 3  # a study is given up after so many images that a decoder crashed or hung on: each may cost a minute
_UNORIENTED = "Patient Orientation is absent: sides are told as if the patient's right were at the left of the picture"


@dataclass
class _Seen:
    """The radiographs that may be read, what is to be said of all, and why some, by SOP Instance UID, look too young."""

    shown: list[RadiographImage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    pixels: dict[bytes, int | None] = field(default_factory=dict)
    young: dict[str, str] = field(default_factory=dict)
    refused: list[UnusableStudy] = field(default_factory=list)


def look_at_radiographs(
    line: Line, selection: Selection, paths: Sequence[Path], manifests: Sequence[Manifest],
) -> tuple[Assessment, Mapping[str, NDArray[np.float32]]]:
    """Let the bundles look at the radiographs that can be decoded and pass the gate.

    Returns what they said, and the radiographs as displayed, by SOP Instance UID. A bundle that refuses the images is
    named in a limitation. Raises: UnusableStudy, that of the first image when none may be read, or of the first bundle
    when every one refuses; EngineUnavailable.
    """
    with timed(line.metrics, "decode", "cxr"):
        seen = _decoded(line, selection, paths)
    with timed(line.metrics, "infer", "cxr"):
        fields, unplaced = _fields(line, selection, seen.shown)
        unjudged = {h.sop_instance_uid: (codes.CARDIOMEGALY,) for h in selection.headers if is_from_the_front(h)}
        said: list[Assessment] = []
        refused: list[tuple[Manifest, UnusableStudy]] = []
        for manifest in manifests:
            transform = CxrTransform(
                _preparation(manifest), partial(cxr.saliency_on_source, parameters=manifest.parameters))
            try:
                shown = _old_enough(seen, manifest)
                said.append(assess_cxr(shown, line.engine, manifest, transform, manifest.limitations, fields, unjudged))
            except UnusableStudy as error:
                refused.append((manifest, error))
    if not said:
        raise refused[0][1]
    whole = together(said, _helpers(line, fields))
    technical = [*seen.notes, *(note for found in fields.values() for note in found.notes)]
    limitations = (*whole.limitations, *selection.limitations, *technical, *unplaced, *(did_not_read(*r) for r in refused))
    whole = replace(whole, limitations=tuple(dict.fromkeys(limitations)), quality=quality_of(technical))
    return whole, {i.sop_instance_uid: i.grey for i in seen.shown}


def _decoded(line: Line, selection: Selection, paths: Sequence[Path]) -> _Seen:
    """Decode each radiograph and show it to the gate; when none passes, the first one's error is the study's.

    Raises: UnusableStudy, also when the images are too large together, or decoders fail again and again.
    """
    require_room(sum((h.rows or 0) * (h.columns or 0) for h in selection.headers), line.most_decoded_bytes)
    seen = _Seen()
    for header, path in zip(selection.headers, paths, strict=True):
        try:
            image, found = to_grey(path, line.decoder)
            _require_size(image)
            if len(paths) > 1 and _is_repeated(seen, image, header):
                continue
            judged = _judged(line, image)
        except UnusableStudy as error:
            seen.refused.append(error)
            if isinstance(error, DecoderFailed) and _failures(seen.refused) >= _MOST_FAILURES:
                raise
            seen.notes.append(f"image {header.instance_number} was not read: {error.reason.value}")
        else:
            seen.shown.append(image)
            seen.notes.extend((*found, *judged.notes))
            if age_years(header) is None and CHILD in judged.over:
                seen.young[image.sop_instance_uid] = f"image {header.instance_number}"
    if not seen.shown:
        raise seen.refused[0]
    return seen


def _is_repeated(seen: _Seen, image: RadiographImage, header: Header) -> bool:
    """Tell whether the same pixels came before: an image that was sent twice under two UIDs counts once."""
    key = hashlib.sha256(repr(image.grey.shape).encode() + image.grey.tobytes()).digest()
    if key in seen.pixels:
        seen.notes.append(f"the same pixels came twice: image {header.instance_number} is image {seen.pixels[key]} again")
        return True
    seen.pixels[key] = header.instance_number
    return False


def _failures(errors: Sequence[UnusableStudy]) -> int:
    return sum(isinstance(error, DecoderFailed) for error in errors)


def _old_enough(seen: _Seen, manifest: Manifest) -> list[RadiographImage]:
    """Return the images that a bundle reads, whose headers tell no age. Raises: UnusableStudy when all look too young."""
    if not manifest.accepts.least_age_years:
        return seen.shown
    kept = [i for i in seen.shown if i.sop_instance_uid not in seen.young]
    if not kept:
        raise UnusableStudy(
            Reason.IMAGE_OF_A_CHILD, f"the headers tell no age, and the gate takes {', '.join(seen.young.values())} for a "
            f"child's; {manifest.name} reads from {manifest.accepts.least_age_years:g} years on")
    return kept


def _judged(line: Line, image: RadiographImage) -> Judged:
    gate = line.named(line.cxr_gate)
    return Judged() if gate is None else judge(image, line.engine, gate, _preparation(gate))


def _fields(
    line: Line, selection: Selection, shown: Sequence[RadiographImage],
) -> tuple[dict[str, LungFields], list[str]]:
    """Return the lung fields by SOP Instance UID, none without a bundle for them; and what limits the placing."""
    lungs = line.named(line.cxr_lungs)
    if lungs is None:
        return {}, []
    transform = FieldsTransform(_preparation(lungs), partial(cxr.restore, parameters=lungs.parameters))
    headers = {h.sop_instance_uid: h for h in selection.headers}
    found: dict[str, LungFields] = {}
    notes: list[str] = []
    for image in shown:
        header = headers[image.sop_instance_uid]
        if _is_contradictory(header):
            notes.append(f"findings of image {header.instance_number} were not placed: what its header says of its "
                         "orientation contradicts itself")
            continue
        try:
            found[image.sop_instance_uid] = find_fields(image, line.engine, lungs, transform, _mirrored(header))
        except UnusableStudy as error:
            notes.append(f"findings of image {header.instance_number} were not placed: {error.reason.value}")
        else:
            notes += [] if header.patient_orientation[:1] else [_UNORIENTED]
    return found, notes


def _is_contradictory(header: Header) -> bool:
    """Tell whether nobody can say which side is which: flipped or turned without Patient Orientation, or a wrong one."""
    row, column = (*header.patient_orientation, "", "")[:2]
    if not row:
        return header.field_of_view_horizontal_flip.upper() == "YES" or bool((header.field_of_view_rotation or 0) % 360)
    return row[:1] not in ("L", "R") or column[:1] not in ("", "F", "H")


def _mirrored(header: Header) -> bool:
    """Tell whether rows run toward the patient's right (PS3.3 C.7.6.1.1.1): then it is at the right of the picture."""
    return header.patient_orientation[:1] == ("R",)


def _preparation(manifest: Manifest) -> partial[NDArray[np.float32]]:
    return partial(cxr.image_tensor, parameters=manifest.parameters, steps=manifest.steps)


def _helpers(line: Line, fields: Mapping[str, LungFields]) -> list[BundleIdentity]:
    """Return the bundles that judged or placed."""
    gate, lungs = line.named(line.cxr_gate), line.named(line.cxr_lungs) if fields else None
    return [line.engine.identity(manifest.name) for manifest in (gate, lungs) if manifest is not None]


def _require_size(image: RadiographImage) -> None:
    rows, columns = image.grey.shape
    if min(rows, columns) < _LEAST_PX:
        raise UnusableStudy(Reason.IMAGE_TOO_SMALL, f"{rows} x {columns} pixels; accepted: at least {_LEAST_PX} a side")
