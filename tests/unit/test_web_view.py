"""The images on the study page: the right slices in the right order, their values, and what is marked on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from pydicom import dcmread

from service.assemble.geometry import GeometryRules
from service.metrics import Metrics
from service.prepare.frames import frame_headers
from service.receive.header import read_file_header
from service.report.capture import blended
from service.store.database import Database
from service.web.app import WebStyle, create_app
from service.web.view.heat import unblended
from service.web.view.segments import key_slices, scanned
from service.web.view.stacks import Shown, stacks
from tests import builders
from tests.browser import pictured
from tests.browser.served import asked
from tests.contracts import outputs
from tests.contracts.assessed import OUTLINES, masks

NOW = 1_767_400_000.0
SLICES, SIZE = pictured.SLICES, pictured.SIZE


@dataclass
class House:
    """A store with a CT and a radiograph, and its pages."""

    database: Database
    folder: Path
    http: httpx.Client
    ct: str
    cxr: str

    def view(self, uid: str) -> dict:  # type: ignore[type-arg]
        return dict(self.http.get(f"/studies/{uid}/view").json())

    def piece(self, what: str, uid: str, plane: str, index: int, token: str = "") -> httpx.Response:
        return self.http.get(f"/studies/{uid}/{what}/{token or self.view(uid)['token']}/0/{plane}/{index}")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    database = Database(f"sqlite:///{tmp_path / 'view.db'}")
    database.migrate()
    ct, cxr = pictured.fill(database, NOW, tmp_path)
    app = create_app(database, Metrics(), lambda: NOW, WebStyle(), tuple, tmp_path / "results",
                     viewer=pictured.viewer(tmp_path))
    with asked(app) as http:
        yield House(database, tmp_path, http, ct, cxr)
    database.close()


def _hu() -> np.ndarray:  # type: ignore[type-arg]
    """Return the CT as built, (z, y, x) with z from the feet up."""
    spacing = (5.0, 300 / SIZE, 300 / SIZE)
    return builders.phantom_hu(SLICES, spacing, SIZE, builders.chest(SLICES, spacing, SIZE))


def test_slices_come_from_head_to_feet_with_their_hounsfield_units(house: House) -> None:
    expected = _hu()[::-1]
    for index in (0, 7, SLICES - 1):
        got = pictured.as_values(house.piece("pixels", house.ct, "axial", index).content, SIZE, SIZE)
        assert np.array_equal(got, expected[index]), index
    assert house.view(house.ct)["stacks"][0]["numbers"] == list(range(SLICES, 0, -1))


@pytest.mark.parametrize("plane", ["coronal", "sagittal"])
def test_the_other_planes_cut_the_same_volume(house: House, plane: str) -> None:
    expected, at = _hu()[::-1], SIZE // 3
    got = pictured.as_values(house.piece("pixels", house.ct, plane, at).content, SLICES, SIZE)
    assert np.array_equal(got, expected[:, at] if plane == "coronal" else expected[:, :, at])


@pytest.mark.parametrize(("plane", "at"), [("axial", 25), ("coronal", SIZE // 2), ("sagittal", round(SIZE * 0.3))])
def test_what_is_marked_lies_where_the_model_drew_it(house: House, plane: str, at: int) -> None:
    drawn = masks(SLICES, SIZE)[::-1]
    expected = drawn[at] if plane == "axial" else drawn[:, at] if plane == "coronal" else drawn[:, :, at]
    got = np.frombuffer(house.piece("marks", house.ct, plane, at).content, np.uint8).reshape(expected.shape)
    assert expected.any() and np.array_equal(got, expected)


def test_the_page_is_told_where_along_the_body_something_was_found(house: House) -> None:
    stack = house.view(house.ct)["stacks"][0]
    drawn = masks(SLICES, SIZE)[::-1]
    [found] = [s for s in stack["segments"] if s["finding"]]
    assert found["label"] == "infection" and found["colour"].startswith("#")
    assert found["areas"] == [int(np.count_nonzero(plane & 4)) for plane in drawn]
    assert all(found["areas"][k] for k in (*stack["key"], stack["start"])) and stack["key"]
    assert stack["letters"] == ["R", "L", "A", "P"]


def test_a_radiograph_is_shown_as_its_window_says_with_outlines_and_saliency(house: House) -> None:
    [stack] = house.view(house.cxr)["stacks"]
    got = pictured.as_values(house.piece("pixels", house.cxr, "axial", 0).content, 256, 256)
    assert np.abs(got / 4095 - builders.ribs(256)).max() < 0.002
    assert [tuple(o["points"]) for o in stack["outlines"]][:2] == [tuple(v for p in o for v in p) for o in OUTLINES]
    assert stack["heat"] and stack["letters"] == ["R", "L", "H", "F"]
    png = house.http.get(f"/studies/{house.cxr}/heat/{house.view(house.cxr)['token']}/0.png").content
    heat = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    y, x = np.unravel_index(heat[..., 3].argmax(), heat.shape[:2])
    assert abs(y / heat.shape[0] - 0.6) < 0.03 and abs(x / heat.shape[1] - 0.3) < 0.03, "where the model's evidence peaks"
    assert heat[:20, -20:, 3].max() == 0, "nothing where there is no evidence"


def test_saliency_comes_out_of_the_picture_as_it_went_in() -> None:
    y, x = np.mgrid[0:256, 0:256].astype(np.float32) / 256
    saliency = np.exp(-((x - 0.4) ** 2 + (y - 0.5) ** 2) / 0.03).astype(np.float32)
    picture = blended(builders.ribs(256).astype(np.float32), saliency)
    found = unblended(picture[12:12 + 256]) / 255.0
    shown = saliency >= 0.17
    assert np.abs(found - saliency)[shown].max() < 0.06
    assert found[saliency < 0.14].max() == 0


@pytest.mark.parametrize(("path", "status"), [
    ("pixels/{token}/0/axial/40", 404), ("pixels/{token}/0/axial/-1", 404), ("pixels/{token}/1/axial/0", 404),
    ("pixels/{token}/0/oblique/0", 404), ("pixels/{token}/0/coronal/96", 404), ("pixels/0000/0/axial/0", 409),
    ("heat/{token}/0.png", 404), ("pixels/{token}/x/axial/0", 422)])
def test_what_is_not_there_is_refused_and_the_server_lives(house: House, path: str, status: int) -> None:
    token = house.view(house.ct)["token"]
    assert house.http.get(f"/studies/{house.ct}/{path.format(token=token)}").status_code == status
    assert house.http.get(f"/studies/1.2.3/pixels/{token}/0/axial/0").status_code == 404
    assert house.piece("pixels", house.ct, "axial", 0).status_code == 200


def test_a_study_whose_images_are_gone_says_so_and_shows_the_pictures_that_were_kept(house: House) -> None:
    token = house.view(house.cxr)["token"]
    pictured.deleted(house.database, house.cxr, house.folder, NOW)
    assert house.piece("pixels", house.cxr, "axial", 0, token).status_code == 410
    page = house.http.get(f"/studies/{house.cxr}")
    assert page.status_code == 200 and "data-view" not in page.text and 'alt="Picture of the result (SC)"' in page.text
    assert house.view(house.cxr) == {"token": "", "stacks": []}


def test_pixels_that_cannot_be_read_are_told_by_their_reason(house: House) -> None:
    [path] = (house.folder / "spool" / str(pictured.CXR)).iterdir()
    path.write_bytes(path.read_bytes()[:-1000])
    answer = house.piece("pixels", house.cxr, "axial", 0)
    assert answer.status_code == 422 and "PixelData has" in answer.text


def test_an_object_that_is_no_segmentation_leaves_the_images_without_marks(house: House) -> None:
    [path] = house.folder.glob("results/*-seg.dcm")
    path.write_bytes(b"no DICOM")
    stack = house.view(house.ct)["stacks"][0]
    assert stack["segments"] == [] and stack["start"] == SLICES // 2
    assert house.piece("marks", house.ct, "axial", 20).content == b""


def test_the_frames_of_an_enhanced_ct_are_slices_too(tmp_path: Path) -> None:
    [path] = builders.write([builders.enhanced_ct(builders.ct_series(slices=12, size=48))], tmp_path)
    header = read_file_header(path)
    [stack] = stacks([Shown(path.name, header)], GeometryRules(5, 12.0), lambda image: frame_headers(path, image.header))
    assert stack.read and stack.has_planes and [i.header.frame_number for i in stack.images] == list(range(12, 0, -1))


def test_series_that_no_model_reads_are_offered_too_each_as_it_lies(tmp_path: Path) -> None:
    made = [ds for series, count in ((1, 3), (2, 12)) for ds in builders.ct_series(series=series, slices=count, size=16)]
    headers = [read_file_header(path) for path in builders.write(made, tmp_path)]
    found = stacks([Shown("", h) for h in headers], GeometryRules(5, 12.0), lambda image: [])
    assert [(s.read, len(s.images), s.has_planes) for s in found] == [(True, 12, True), (False, 3, False)]
    assert [i.header.instance_number for i in found[1].images] == [1, 2, 3]


def test_key_slices_are_the_largest_of_each_third_and_no_neighbours() -> None:
    assert key_slices([0, 1, 5, 1, 0, 2, 9, 2, 0, 1, 3, 1]) == [2, 6, 10]
    assert key_slices([0, 0, 4, 5, 6, 0]) == [2] and key_slices([0, 0]) == []


@pytest.mark.parametrize("enhanced", [False, True])
def test_the_quick_look_at_a_segmentation_finds_what_its_items_say(tmp_path: Path, enhanced: bool) -> None:
    output = outputs.enhanced_output(tmp_path) if enhanced else outputs.ct_output(tmp_path)
    [path] = output.made["seg"]
    ds = dcmread(path)
    quick = scanned(ds.get_item("PerFrameFunctionalGroupsSequence").value, int(ds.NumberOfFrames))
    slow = [((str(source.ReferencedSOPInstanceUID), int(source.get("ReferencedFrameNumber", 1))),
             int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber))
            for group in ds.PerFrameFunctionalGroupsSequence
            for source in [group.DerivationImageSequence[0].SourceImageSequence[0]]]
    assert quick == slow and len({place for place, _ in quick}) == 10
    assert scanned(b"", 3) == [] and scanned(None, 3) == [], "then the items are read"
