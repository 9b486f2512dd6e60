"""Lung fields: sides by the geometry of the picture, thirds by height, and where the evidence of a finding lies."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from service.domain import codes
from service.domain.codes import Code
from service.domain.finding import Finding
from service.domain.study import RadiographImage
from service.errors import Reason, UnusableStudy
from service.infer.catalogue import Catalogue
from service.infer.cxr import CxrTransform, assess_cxr
from service.infer.engine import Engine
from service.infer.fields import FieldsTransform, LungFields, fields_of, find_fields, place
from tests.builders import ribs
from tests.tiny_bundles import dark_lungs, spot_cxr

SIZE = 240
HEIGHTS = {codes.UPPER_ZONE: 0.22, codes.MIDDLE_ZONE: 0.45, codes.LOWER_ZONE: 0.68}
AT = {codes.RIGHT: 0.3, codes.LEFT: 0.75}
RAW = CxrTransform(lambda grey: grey[np.newaxis, np.newaxis], lambda activation, rows, columns: activation)
FIELDS = FieldsTransform(lambda grey: grey[np.newaxis, np.newaxis], lambda values, rows, columns: values)


def chest() -> NDArray[np.float32]:
    return ribs(SIZE).astype(np.float32)


def lungs(joined: bool = False) -> NDArray[np.bool_]:
    """Two ellipses of lung, joined by a bridge or not."""
    mask: NDArray[np.bool_] = chest() < 0.45
    if joined:
        mask[100:106, 60:190] = True
    return mask


def spot(side: Code, zone: Code, radius: int = 8) -> NDArray[np.float32]:
    """Evidence in one place only."""
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    far = ((y - HEIGHTS[zone] * SIZE) / radius) ** 2 + ((x - AT[side] * SIZE) / radius) ** 2
    return np.exp(-far).astype(np.float32)


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("zone", HEIGHTS)
@pytest.mark.parametrize("side", AT)
def test_a_lesion_is_placed_where_it_was_put(side: Code, zone: Code, joined: bool) -> None:
    found = place(spot(side, zone), fields_of(lungs(joined)))
    assert (found.side, found.zone) == (side, zone)
    assert found.outside < 0.1


def test_what_lies_near_a_lung_field_is_within_a_fiftieth_of_the_picture() -> None:
    fields = fields_of(lungs())
    rows, columns = np.nonzero(fields.near & (fields.sides == 0))
    lung = np.argwhere(fields.sides > 0)
    farthest = max(float(np.min(np.hypot(*(lung - (r, c)).T))) for r, c in list(zip(rows, columns, strict=True))[::40])
    assert 0.01 * SIZE < farthest <= 0.022 * SIZE
    assert fields.near[fields.sides > 0].all()


def test_a_mirrored_picture_has_the_right_lung_at_its_right() -> None:
    found = place(spot(codes.RIGHT, codes.LOWER_ZONE), fields_of(lungs(), mirrored=True))
    assert (found.side, found.zone) == (codes.LEFT, codes.LOWER_ZONE)


def test_both_fields_off_the_middle_of_the_picture_are_still_told_apart() -> None:
    mask = np.zeros((100, 300), np.bool_)
    mask[10:90, 10:50], mask[10:90, 60:100] = True, True
    fields = fields_of(mask)
    assert fields.sides[50, 30] == 1 and fields.sides[50, 80] == 2 and fields.notes == ()


def test_two_pieces_of_one_lung_stay_on_its_side() -> None:
    mask = np.zeros((100, 100), np.bool_)
    mask[10:40, 10:40], mask[60:90, 10:40] = True, True
    fields = fields_of(mask)
    assert set(np.unique(fields.sides)) == {0, 1}
    assert "no left lung field was found" in fields.notes


def test_a_gap_that_the_lung_encloses_belongs_to_it_and_thirds_are_of_equal_height() -> None:
    mask = np.zeros((100, 100), np.bool_)
    mask[5:95, 10:40] = True
    mask[40:60, 20:30] = False
    fields = fields_of(mask)
    assert fields.sides[50, 25] == 1
    assert [sum(fields.zone(row, 15) == n for row in range(len(fields.sides))) for n in (1, 2, 3)] == [30, 30, 30]


def test_little_lung_is_said() -> None:
    mask = np.zeros((100, 100), np.bool_)
    mask[40:60, 20:25], mask[40:60, 70:75] = True, True
    assert fields_of(mask).notes == ("little lung is seen: 2 % of the picture",)
    assert "little lung" in fields_of(np.zeros((100, 100), np.bool_)).notes[0]


def test_evidence_outside_the_lungs_is_measured_and_not_placed() -> None:
    elsewhere = np.zeros((SIZE, SIZE), np.float32)
    elsewhere[:20, :20] = 1
    found = place(elsewhere, fields_of(lungs()))
    assert (found.side, found.zone, found.outside) == (None, None, 1.0)


def test_no_evidence_is_nowhere() -> None:
    found = place(np.zeros((SIZE, SIZE), np.float32), fields_of(lungs()))
    assert (found.side, found.zone, found.outside) == (None, None, 0.0)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    spot_cxr(tmp_path)
    dark_lungs(tmp_path, most_unfamiliarity=0.9)
    return Engine(Catalogue.load(tmp_path), "cpu", threads=1)


def fields_by(engine: Engine, grey: NDArray[np.float32]) -> LungFields:
    manifest = engine._catalogue.get("tiny-lungs")
    return find_fields(RadiographImage("1.2", grey), engine, manifest, FIELDS)


def mass_of(engine: Engine, grey: NDArray[np.float32], fields: dict[str, LungFields]) -> tuple[Finding, tuple[str, ...]]:
    manifest = engine._catalogue.get("tiny-findings")
    said = assess_cxr([RadiographImage("1.2", grey)], engine, manifest, RAW, (), fields)
    return next(f for f in said.findings if f.name == "mass"), said.limitations


def test_fields_on_a_detectors_image_are_those_of_the_networks_grid(engine: Engine) -> None:
    grey = chest()
    grey[100:130, 60:75] = 0.9  # a dense lesion in a lung: a gap that belongs to it
    times = 9

    def raised(values: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
        return np.clip(cv2.resize(values[0], (columns, rows), interpolation=cv2.INTER_LINEAR), 0, 1)[np.newaxis]

    transform = FieldsTransform(lambda image: cv2.resize(image, (SIZE, SIZE))[np.newaxis, np.newaxis], raised)
    large = RadiographImage("1.2", cv2.resize(grey, (times * SIZE, times * SIZE), interpolation=cv2.INTER_NEAREST))
    found = find_fields(large, engine, engine._catalogue.get("tiny-lungs"), transform)
    small = fields_by(engine, grey)
    assert small.sides[115, 67] > 0 and found.notes == small.notes
    wanted = np.kron(small.sides, np.ones((times, times), np.uint8))
    assert (found.sides != wanted).mean() < 0.01
    assert found.zone(115 * times, 67 * times) == small.zone(115, 67)
    evidence = spot(codes.LEFT, codes.LOWER_ZONE)
    there = place(cv2.resize(evidence, (times * SIZE, times * SIZE)), found)
    assert (there.side, there.zone) == (codes.LEFT, codes.LOWER_ZONE) and there.outside < 0.1
    near = np.kron(small.near.view(np.uint8), np.ones((times, times), np.uint8))
    assert (found.near != near).mean() < 0.02


def test_the_finding_follows_a_moved_lesion(engine: Engine) -> None:
    for side in AT:
        for zone in HEIGHTS:
            grey = np.maximum(chest(), spot(side, zone))
            mass, limitations = mass_of(engine, grey, {"1.2": fields_by(engine, grey)})
            assert (mass.laterality, mass.zone, limitations) == (side, zone, ())
            assert mass.place == f"{side.meaning} {zone.meaning.split()[0]} zone".lower()
            ((column, row), *_), *_ = mass.outlines
            assert abs(row - HEIGHTS[zone] * SIZE) < 20 and abs(column - AT[side] * SIZE) < 20


def test_evidence_outside_the_lungs_is_a_limitation(engine: Engine) -> None:
    grey = chest()
    grey[:20, :20] = 1.0
    mass, limitations = mass_of(engine, grey, {"1.2": fields_by(engine, grey)})
    assert (mass.laterality, mass.zone, mass.outlines) == (None, None, ())
    assert limitations == ("most of the evidence for mass lies outside the lung fields",)


def test_without_lung_fields_nothing_is_placed(engine: Engine) -> None:
    mass, limitations = mass_of(engine, np.maximum(chest(), spot(codes.LEFT, codes.UPPER_ZONE)), {})
    assert (mass.laterality, mass.zone, mass.site, limitations) == (None, None, codes.LUNG, ())


def test_a_picture_that_is_unfamiliar_has_no_lung_fields(engine: Engine) -> None:
    with pytest.raises(UnusableStudy) as caught:
        fields_by(engine, np.full((64, 64), 0.95, np.float32))
    assert caught.value.reason is Reason.UNFAMILIAR_IMAGE
