"""Key slices for viewers that show no SEG: the CT stays visible, contours lie where the masks end, sides are lettered."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from pydicom.dataset import Dataset

from service.domain.study import VolumeGeometry
from service.report.build import build
from service.report.montage import PANEL_PX, _toward
from tests import builders
from tests.contracts.assessed import NOW, SEGMENTS, STYLE, ct, pictures

HEAD = 36 + max(12, PANEL_PX // 24)
SLICES, SIZE = 12, 64


@pytest.fixture
def sources() -> list[Dataset]:
    return list(builders.ct_series(slices=SLICES, size=SIZE, spacing_mm=(5.0, 3.0, 3.0)))


def montage_of(sources: list[Dataset], geometry: VolumeGeometry | None = None, **changes: object) -> Dataset:
    selection, said = ct(sources, **changes)
    chosen = dataclasses.replace(selection, geometry=geometry or selection.geometry)
    made = {m.kind: m.dataset for m in build(chosen, sources, said, STYLE, "d", 1, [], NOW, pictures(sources))}
    return made["sc"]


def panels(picture: Dataset) -> np.ndarray:
    """Return (panel, y, x, colour)."""
    pixels = picture.pixel_array[HEAD:HEAD + PANEL_PX]
    return np.stack(np.split(pixels, picture.Columns // PANEL_PX, axis=1))


def of_colour(panel: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.abs(panel.astype(int) - colour).sum(axis=-1) < 60


def test_contours_lie_on_the_border_of_the_mask_in_the_colour_of_the_segment(sources):
    said = ct(sources)[1]
    first = panels(montage_of(sources))[0]
    z = max(range(SLICES), key=lambda k: (int(said.mask(SEGMENTS[2])[k].sum()), k))
    for segment in SEGMENTS[1:]:
        rows, columns = np.nonzero(of_colour(first, segment.colour))
        y, x = np.nonzero(said.mask(segment)[z])
        scale = PANEL_PX / SIZE
        assert np.array([rows.min(), rows.max()]) == pytest.approx([y.min() * scale, (y.max() + 1) * scale], abs=scale)
        assert np.array([columns.min(), columns.max()]) == pytest.approx([x.min() * scale, (x.max() + 1) * scale], abs=scale)


def test_between_the_contours_the_slice_is_shown_as_it_is(sources):
    shown = panels(montage_of(sources))[0]
    expected = pictures(sources)[str(sources[5].SOPInstanceUID)] * 255
    assert float(shown[PANEL_PX // 2, 20, 0]) == pytest.approx(float(expected[SIZE // 2, 2]), abs=3)
    assert float(shown[PANEL_PX // 4, PANEL_PX // 2, 1]) == pytest.approx(float(expected[SIZE // 4, SIZE // 2]), abs=3)


def test_pixels_that_are_not_square_are_shown_in_true_shape():
    sources = list(builders.ct_series(slices=SLICES, size=SIZE, spacing_mm=(5.0, 3.0, 6.0)))
    shown = panels(montage_of(sources))[0]
    assert shown[PANEL_PX // 2 + 20:].max() == 0 and shown[PANEL_PX // 2 - 40:PANEL_PX // 2].max() > 0


def test_the_order_is_from_the_head_down_whichever_way_the_stack_runs(sources):
    up, down = montage_of(sources), montage_of(list(reversed(sources)), _turned(sources))
    listed = [[str(i.ReferencedSOPInstanceUID) for i in m.SourceImageSequence] for m in (up, down)]
    height = {str(s.SOPInstanceUID): float(s.ImagePositionPatient[2]) for s in sources}
    for uids in listed:
        assert [height[u] for u in uids] == sorted((height[u] for u in uids), reverse=True)


def _turned(sources: list[Dataset]) -> VolumeGeometry:
    geometry = ct(sources)[0].geometry
    assert geometry is not None
    positions = tuple(-p for p in reversed(geometry.positions_mm))
    return dataclasses.replace(geometry, normal=(0.0, 0.0, -1.0), positions_mm=positions)


@pytest.mark.parametrize(("direction", "sign", "letter"), [
    ((1, 0, 0), 1, "L"), ((1, 0, 0), -1, "R"), ((-1, 0, 0), 1, "R"), ((0, 1, 0), 1, "P"), ((0, 1, 0), -1, "A"),
    ((0, 0, -1), 1, "F"), ((0.98, 0.2, 0), -1, "R")])
def test_letters_name_the_side_of_the_patient(direction, sign, letter):
    assert _toward(direction, sign) == letter


def test_the_picture_is_marked_and_says_what_it_was_made_of(sources):
    made = montage_of(sources)
    assert (made.Modality, made.BurnedInAnnotation, made.SeriesNumber) == ("OT", "YES", 902)
    assert "Research use only" in made.DerivationDescription and "key slices" in made.SeriesDescription
    assert len(made.SourceImageSequence) == made.Columns // PANEL_PX == 3


@pytest.mark.parametrize("without", ["pictures", "style", "masks"])
def test_without_pictures_masks_or_wish_there_is_no_montage(without, sources):
    selection, said = ct(sources, **({"masks": np.zeros((SLICES, SIZE, SIZE), np.uint8)} if without == "masks" else {}))
    style = dataclasses.replace(STYLE, secondary_capture=without != "style")
    made = build(selection, sources, said, style, "d", 1, [], NOW, None if without == "pictures" else pictures(sources))
    assert "sc" not in [m.kind for m in made]
