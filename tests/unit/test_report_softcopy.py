"""Presentation states and key objects: outlines where the findings are, shown as the source asks for."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from pydicom.dataset import Dataset

from service.domain import codes
from service.domain.finding import Presence
from service.report.build import build
from tests import builders
from tests.contracts import gate
from tests.contracts.assessed import EVERYTHING, NOW, OUTLINES, STYLE, ct, cxr, cxr_by_two, pictures


def made_of(sources: list[Dataset], saying=cxr_by_two, **changes: object) -> dict[str, list[Dataset]]:
    selection, said = saying(sources, **changes)
    made: dict[str, list[Dataset]] = {}
    for one in build(selection, sources, said, EVERYTHING, "d", 1, [], NOW, pictures(sources)):
        made.setdefault(one.kind, []).append(one.dataset)
    return made


def lines(state: Dataset) -> list[tuple[tuple[float, float], ...]]:
    return [tuple(zip(g.GraphicData[::2], g.GraphicData[1::2], strict=True))
            for g in state.GraphicAnnotationSequence[0].GraphicObjectSequence]


def test_outlines_of_a_finding_are_drawn_with_its_name_and_the_tracking_uid_of_the_report():
    made = made_of([builders.radiograph()])
    (state,) = made["pr"]
    assert tuple(lines(state)) == OUTLINES
    words = [t.UnformattedTextValue for t in state.GraphicAnnotationSequence[0].TextObjectSequence]
    assert words == ["pneumonia 75%", "pneumonia 75%", "RESEARCH USE ONLY - NOT FOR DIAGNOSIS - AI"]
    (report,) = made["sr"]
    tracked = {i.UID for g in gate.groups(report) for i in g.ContentSequence if i.ValueType == "UIDREF"}
    assert {g.TrackingUID for g in state.GraphicAnnotationSequence[0].GraphicObjectSequence} <= tracked


def test_contours_of_a_ct_enclose_the_mask_of_their_slice():
    sources = list(builders.ct_series(slices=12, size=64))
    said = ct(sources)[1]
    states = made_of(sources, ct)["pr"]
    assert len(states) == 3
    mask = said.mask(said.segments[2])
    order = [str(s.SOPInstanceUID) for s in sources]
    for state in states:
        z = order.index(state.GraphicAnnotationSequence[0].ReferencedImageSequence[0].ReferencedSOPInstanceUID)
        (outline,) = lines(state)
        y, x = np.nonzero(mask[z])
        columns, rows = np.array(outline).T
        assert (columns.min(), columns.max(), rows.min(), rows.max()) == (
            x.min() + 0.5, x.max() + 0.5, y.min() + 0.5, y.max() + 0.5)
        window = state.SoftcopyVOILUTSequence[0]
        assert (window.WindowCenter, window.WindowWidth, state.RescaleIntercept) == (-600, 1500, -1024)


def test_the_window_of_the_source_is_handed_on():
    source = builders.radiograph(WindowCenter=[1500, 900], WindowWidth=[3000, 800], VOILUTFunction="SIGMOID")
    (state,) = made_of([source])["pr"]
    item = state.SoftcopyVOILUTSequence[0]
    assert (list(item.WindowCenter), list(item.WindowWidth), item.VOILUTFunction) == ([1500, 900], [3000, 800], "SIGMOID")


def test_a_voi_lut_of_the_source_comes_before_its_window():
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4, 0, 8], [0, 10, 100, 255]
    (state,) = made_of([builders.radiograph(VOILUTSequence=[table])])["pr"]
    assert "VOILUTSequence" in state.SoftcopyVOILUTSequence[0] and "WindowCenter" not in state.SoftcopyVOILUTSequence[0]


def test_a_source_without_window_leaves_the_choice_to_the_viewer():
    (state,) = made_of([builders.radiograph(WindowCenter=None, WindowWidth=None)])["pr"]
    assert "SoftcopyVOILUTSequence" not in state


@pytest.mark.parametrize(("photometric", "shape"), [("MONOCHROME1", "INVERSE"), ("MONOCHROME2", "IDENTITY")])
def test_an_inverted_radiograph_stays_inverted(photometric, shape):
    (state,) = made_of([builders.radiograph(PhotometricInterpretation=photometric)])["pr"]
    assert state.PresentationLUTShape == shape


def test_pixels_that_are_not_square_keep_their_shape():
    (state,) = made_of([builders.radiograph(ImagerPixelSpacing=[0.2, 0.1])])["pr"]
    area = state.DisplayedAreaSelectionSequence[0]
    assert list(area.PresentationPixelSpacing) == [0.2, 0.1] and "PresentationPixelAspectRatio" not in area


def test_key_images_are_those_of_findings_and_the_pictures_of_them():
    sources = [builders.radiograph(instance=1), builders.radiograph(instance=2)]
    made = made_of(sources)
    (selected,) = made["ko"]
    assert selected.ConceptNameCodeSequence[0].CodeValue == codes.OF_INTEREST.value
    shown = [str(i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for i in selected.ContentSequence
             if i.ValueType == "IMAGE"]
    assert shown == [str(s.SOPInstanceUID) for s in (*sources, *made["sc"])]
    text = next(i.TextValue for i in selected.ContentSequence if i.ValueType == "TEXT" and i.TextValue.startswith("AI"))
    assert "right lower zone pneumonia" in text and "Research use only" in text


def test_nothing_found_makes_neither_outlines_nor_key_images():
    assert set(made_of([builders.radiograph()], present=False)) == {"sc", "sr"}
    sources = list(builders.ct_series(slices=6, size=32))
    assert set(made_of(sources, ct, infection=False)) == {"seg", "sc", "sr"}


def test_a_site_that_wants_neither_gets_neither():
    source = builders.radiograph()
    selection, said = cxr([source])
    found = dataclasses.replace(said.findings[0], presence=Presence.PRESENT, outlines=OUTLINES)
    said = dataclasses.replace(said, findings=(found,))
    assert {m.kind for m in build(selection, [source], said, STYLE, "d", 1, [], NOW, pictures([source]))} == {"sc", "sr"}
