"""Outlines for viewers that show neither SEG nor regions of an SR: Grayscale Softcopy Presentation State (PS3.3 A.33.1)."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from highdicom import PresentationLUTTransformation
from highdicom.color import CIELabColor
from highdicom.pr import (
    AnnotationUnitsValues,
    GraphicAnnotation,
    GraphicLayer,
    GraphicObject,
    GraphicTypeValues,
    GrayscaleSoftcopyPresentationState,
    TextObject,
)
from pydicom.dataset import Dataset

from service.domain import codes
from service.domain.finding import Assessment, Outline
from service.report.content import tracking_uid
from service.report.document import Context, Made, anonymous, finish
from service.report.identity import DISCLAIMER, MANUFACTURER
from service.report.picture import BANNER
from service.report.segmentation import Drawn

LUNG_WINDOW = (-600.0, 1500.0)
"""Centre and width, HU, of the states for CT slices."""

_COLOUR = (255, 140, 0)
_RESCALE = ("RescaleIntercept", "RescaleSlope", "RescaleType")
_WINDOW = ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction")


@dataclass(frozen=True)
class Mark:
    """One outline on an image, with a word for it. tracking_uid: of what it outlines."""

    outline: Outline
    label: str
    tracking_uid: str


def of_radiographs(context: Context, sources: Sequence[Dataset], assessment: Assessment) -> list[Made]:
    """Build one presentation state for each radiograph that a finding has outlines on."""
    made: list[Made] = []
    for source in sources:
        marks = [Mark(outline, f"{f.name.replace('_', ' ')} {f.probability:.0%}", tracking_uid(context, f, number))
                 for f in assessment.present if f.sop_instance_uid == source.SOPInstanceUID
                 for number, outline in enumerate(f.outlines)]
        if marks:
            made.append(_state(context, source, marks, _own_window(source), len(made) + 1))
    return made


def of_slices(context: Context, sources: Sequence[Dataset], found: Drawn, slices: Iterable[int]) -> list[Made]:
    """Build one presentation state for each key slice, in the lung window, with the contours of the abnormal segments."""
    made: list[Made] = []
    for z in slices:
        marks = [
            Mark(outline, segment.label, context.uid("tracking", segment.label))
            for segment in found.segments if segment.category == codes.MORPHOLOGICALLY_ABNORMAL
            for outline in _contours((found.masks[z] >> np.uint8(segment.number - 1)) & np.uint8(1))]
        if marks:
            window = Dataset()
            window.WindowCenter, window.WindowWidth = LUNG_WINDOW
            made.append(_state(context, sources[z], marks, window, len(made) + 1))
    return made


def _contours(mask: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> list[Outline]:
    """Return the outer borders of a mask as closed polygons in pixels; what is thinner than three points is left out."""
    borders, _ = cv2.findContours(np.ascontiguousarray(mask), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    polygons = [border.reshape(-1, 2).astype(np.float64) + 0.5 for border in borders if len(border) >= 3]
    return [tuple((float(x), float(y)) for x, y in (*p.tolist(), p[0].tolist())) for p in polygons]


def _state(context: Context, source: Dataset, marks: Sequence[Mark], window: Dataset | None, number: int) -> Made:
    stand_in = anonymous(source)
    stand_in.Rows, stand_in.Columns, stand_in.SamplesPerPixel = source.Rows, source.Columns, 1
    layer = GraphicLayer("AI", 1, DISCLAIMER, CIELabColor.from_rgb(*_COLOUR))
    series = context.series("pr") | {
        "instance_number": number, "sop_instance_uid": context.uid("instance", "pr", str(source.SOPInstanceUID))}
    made = GrayscaleSoftcopyPresentationState(
        referenced_images=[stand_in], manufacturer=MANUFACTURER, manufacturer_model_name=context.equipment.model_name,
        software_versions=context.equipment.software_version, device_serial_number=context.equipment.serial_number,
        content_label="AI_OUTLINES", content_description=DISCLAIMER, content_creator_name=f"{MANUFACTURER}^",
        graphic_layers=[layer], graphic_annotations=[_annotation(stand_in, layer, marks)],
        presentation_lut_transformation=PresentationLUTTransformation(
            presentation_lut_shape="INVERSE" if source.get("PhotometricInterpretation") == "MONOCHROME1" else "IDENTITY"),
        **series,
    )
    _hand_on(made, source, window)
    finish(made, context, "outlines", [m.label for m in marks])
    made.PresentationCreationDate, made.PresentationCreationTime = made.ContentDate, made.ContentTime
    del made.ContentDate, made.ContentTime  # not in this IOD
    return Made("pr", made, f"{len(marks)} outlines on an image")


def _annotation(image: Dataset, layer: GraphicLayer, marks: Sequence[Mark]) -> GraphicAnnotation:
    pixel, display = AnnotationUnitsValues.PIXEL, AnnotationUnitsValues.DISPLAY
    lines = [GraphicObject(GraphicTypeValues.POLYLINE, np.array(m.outline, np.float64), pixel,
                           tracking_id=m.label[:64], tracking_uid=m.tracking_uid) for m in marks]
    words = [TextObject(m.label, pixel, anchor_point=min(m.outline, key=lambda p: p[1])) for m in marks]
    warning = TextObject(BANNER, display, bounding_box=(0.02, 0.01, 0.98, 0.05))
    return GraphicAnnotation([image], layer, graphic_objects=lines, text_objects=[*words, warning])


def _hand_on(made: Dataset, source: Dataset, window: Dataset | None) -> None:
    """Copy how the source's values are to be shown, for a presentation state replaces all of it (PS3.3 A.33.1)."""
    if source.get("ModalityLUTSequence"):
        made.ModalityLUTSequence = copy.deepcopy(source.ModalityLUTSequence)
    elif source.get("RescaleSlope") and source.get("RescaleIntercept") is not None:
        for keyword in _RESCALE:
            setattr(made, keyword, source.get(keyword) or ("US" if keyword == "RescaleType" else source.get(keyword)))
    if window is not None:
        made.SoftcopyVOILUTSequence = [window]
    spacing = [float(v) for v in source.get("PixelSpacing") or source.get("ImagerPixelSpacing") or ()]
    area = made.DisplayedAreaSelectionSequence[0]
    if len(spacing) == 2 and spacing[0] != spacing[1] and min(spacing) > 0:
        del area.PresentationPixelAspectRatio
        area.PresentationPixelSpacing = spacing


def _own_window(source: Dataset) -> Dataset | None:
    """Return the VOI of a radiograph as an item of Softcopy VOI LUT Sequence, or None when it brings none."""
    item = Dataset()
    if source.get("VOILUTSequence"):
        item.VOILUTSequence = copy.deepcopy(source.VOILUTSequence)
        return item
    if source.get("WindowCenter") in (None, "") or source.get("WindowWidth") in (None, ""):
        return None
    for keyword in _WINDOW:
        if source.get(keyword) not in (None, ""):
            item.add(copy.deepcopy(source[keyword]))
    return item
