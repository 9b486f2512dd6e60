"""A radiologist's way through a study in Chromium: pictures, slices, windows, overlays, planes; and no fault of axe-core.

FIRSTLOOK_SCREENSHOTS names a folder that keeps the pictures.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from sqlmodel import select

from service.metrics import Metrics
from service.store.database import Database
from service.store.tables import Event, Study
from service.web.app import WebStyle, create_app
from service.web.site import SiteViewer
from tests.browser import pictured, seed
from tests.browser.axe import faults
from tests.browser.chromium import Tab, new_tab
from tests.browser.served import served

pytestmark = pytest.mark.peer
DRAWN = "document.getElementById('viewer')?.dataset.drawn"
WHERE = "document.querySelector('[data-part=where]').textContent"
GREY = """(plane, x, y) => { const c = document.querySelector(`canvas[data-plane=${plane}]`);
  return [...c.getContext('2d').getImageData(Math.round(c.width * x), Math.round(c.height * y), 1, 1).data].slice(0, 3); }"""
BROKEN = """window.broken = []; addEventListener('error', e => broken.push(e.message || String(e.target.src)), true);
addEventListener('unhandledrejection', e => broken.push(String(e.reason)));
addEventListener('securitypolicyviolation', e => broken.push(e.violatedDirective + ' ' + e.blockedURI));"""
"""What fails in the page, or is kept from it by the content security policy."""

OHIF = SiteViewer(name="OHIF", url="https://viewer.example/viewer?StudyInstanceUIDs={study_instance_uid}")


@dataclass
class Room:
    """A store with pictures, its pages, and a browser."""

    database: Database
    address: str
    tab: Tab
    ct: str
    cxr: str
    pictures: Path

    def open(self, uid: str, query: str = "") -> None:
        """Open a study and wait until its first picture is there."""
        self.tab.open(f"{self.address}/studies/{uid}{query}")
        self.tab.wait(DRAWN)

    def colour(self, plane: str, x: float, y: float) -> list[int]:
        """Return what is drawn at a place of a plane, 0..1 of its width and height."""
        return list(self.tab.ask(f"({GREY})('{plane}', {x}, {y})"))


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, chromium: Browser) -> Iterator[Room]:
    folder = tmp_path_factory.mktemp("room")
    database = Database(f"sqlite:///{folder / 'room.db'}")
    database.migrate()
    now = time.time()
    seed.fill(database, now, folder / "results")
    ct, cxr = pictured.fill(database, now, folder)
    app = create_app(database, Metrics(), time.time, WebStyle(refresh_s=1, viewers=(OHIF,)), tuple, folder / "results",
                     viewer=pictured.viewer(folder))
    pictures = Path(os.environ.get("FIRSTLOOK_SCREENSHOTS", folder))
    pictures.mkdir(parents=True, exist_ok=True)
    with served(app) as address, new_tab(chromium) as tab:
        tab.begin_with(BROKEN)
        yield Room(database, address, tab, ct, cxr, pictures)
    database.close()


def test_a_ct_opens_on_the_slice_with_most_of_the_finding_in_three_planes(room: Room) -> None:
    room.open(room.ct)
    start = room.tab.ask("JSON.parse(document.getElementById('viewer').dataset.view).stacks[0].start")
    assert f"Slice {start + 1} of 40" in room.tab.ask(WHERE)
    for plane in ("axial", "coronal", "sagittal"):
        room.tab.wait(f"({GREY})('{plane}', .5, .5).some(v => v > 0)")
    red, green, blue = room.colour("axial", 0.3, 0.5)
    assert red > blue + 20 and red > green + 20, "the finding is filled in its colour"


def test_wheel_slider_keys_and_coverage_bar_move_through_the_slices(room: Room) -> None:
    room.open(room.ct)
    start = int(room.tab.ask("document.querySelector('[data-part=slice]').value"))
    room.tab.turn_wheel("canvas[data-plane=axial]", 120)
    room.tab.wait(f"{WHERE}.startsWith('Slice {start + 2} of')")
    room.tab.press("k")
    room.tab.press("k")
    room.tab.wait(f"{WHERE}.startsWith('Slice {start} of')")
    room.tab.ask("(s => { s.value = 39; s.dispatchEvent(new Event('input', {bubbles: true})); })"
                 "(document.querySelector('[data-part=slice]'))")
    room.tab.wait(f"{WHERE}.startsWith('Slice 40 of')")
    room.tab.press("n")
    key = room.tab.ask("JSON.parse(document.getElementById('viewer').dataset.view).stacks[0].key")
    room.tab.wait(f"{WHERE}.startsWith('Slice {key[0] + 1} of')")
    told = room.tab.ask("document.querySelector('[data-part=coverage]').getAttribute('aria-label')")
    assert told.startswith("Marked on 10 of 40 slices, from slice 21 to 30")
    room.tab.click("[data-part=coverage]", across=0.5)
    room.tab.wait(f"{WHERE}.startsWith('Slice 21 of')")
    assert room.tab.ask("broken") == []


def test_overlays_are_switched_on_and_off_and_stay_as_chosen(room: Room) -> None:
    room.open(room.ct)
    room.tab.wait(f"(c => c[0] > c[2] + 20)(({GREY})('axial', .3, .5))")
    room.tab.press("o")
    room.tab.wait(f"(c => c[0] == c[2])(({GREY})('axial', .3, .5))")
    room.tab.press("o")
    room.tab.wait(f"(c => c[0] > c[2] + 20)(({GREY})('axial', .3, .5))")
    infection = "[...document.querySelectorAll('[data-part=layers] button')].find(b => b.textContent.includes('Infection'))"
    room.tab.ask(f"{infection}.click()")
    assert room.tab.ask(f"{infection}.getAttribute('aria-pressed')") == "false"
    room.open(room.ct)
    assert room.colour("axial", 0.3, 0.5)[0] == room.colour("axial", 0.3, 0.5)[2]
    room.tab.ask(f"{infection}.click()")


def test_a_window_changes_the_grey_and_says_its_numbers(room: Room) -> None:
    room.open(room.ct)
    lung = room.colour("axial", 0.7, 0.5)
    room.tab.press("2")
    room.tab.wait(f"{WHERE}.includes('width 400, level 40 HU')")
    assert room.colour("axial", 0.7, 0.5) < lung, "lung is black in the window of the mediastinum"
    room.tab.press("1")


def test_a_click_into_one_plane_takes_the_others_there(room: Room) -> None:
    room.open(room.ct)
    room.tab.wait(f"({GREY})('coronal', .5, .5).some(v => v > 0)")
    room.tab.click("canvas[data-plane=coronal]", 0.5, 0.75)
    before = room.tab.ask(WHERE)
    room.tab.click("canvas[data-plane=coronal]", 0.5, 0.4)
    room.tab.wait(f"{WHERE} != {before!r}")


def test_a_radiograph_shows_outlines_and_its_saliency_on_demand(room: Room) -> None:
    room.open(room.cxr)
    labels = "[...document.querySelectorAll('[data-part=layers] button')].map(b => b.textContent)"
    assert room.tab.ask(labels) == ["Outlines", "Saliency"]
    before = room.colour("axial", 0.3, 0.6)
    room.tab.ask("document.querySelectorAll('[data-part=layers] button')[1].click()")
    room.tab.wait(f"(c => Math.max(...c) - Math.min(...c) > 60)(({GREY})('axial', .3, .6))")
    assert max(before) - min(before) < 60
    room.tab.press("i")
    room.tab.ask("document.querySelectorAll('[data-part=layers] button')[1].click()")


def test_the_report_is_read_as_text_and_the_sites_viewer_is_a_click_away(room: Room) -> None:
    room.open(room.ct)
    link = room.tab.ask("document.querySelector('a.outside').href")
    assert link == f"https://viewer.example/viewer?StudyInstanceUIDs={room.ct}"
    room.tab.ask("[...document.querySelectorAll('#rest a')].find(a => a.textContent == 'Text').click()")
    room.tab.wait("document.querySelector('.report')?.innerText.includes('Imaging Measurement Report')")
    assert "Research use only" in room.tab.ask("document.querySelector('.report').innerText")


def test_news_of_a_study_appear_without_moving_the_slice(room: Room) -> None:
    room.open(room.ct)
    room.tab.press("j")
    where = room.tab.ask(WHERE)
    with room.database.transaction() as session:
        number = session.exec(select(Study.id).where(Study.study_instance_uid == room.ct)).one()
        session.add(Event(study_id=number or 0, at=time.time(), stage="told", text="Something happened", data={}))
    room.tab.wait("document.getElementById('rest').innerText.includes('Something happened')")
    assert room.tab.ask(WHERE) == where


def test_a_view_is_saved_and_opened_again(room: Room) -> None:
    room.tab.open(f"{room.address}/?modality=DX")
    room.tab.press("v")
    room.tab.ask("(f => { f.elements.name.value = 'Films'; f.requestSubmit(); })(document.getElementById('save-view'))")
    room.tab.wait("document.readyState == 'complete' && document.querySelector('#views a')?.textContent == 'Films'")
    room.tab.open(f"{room.address}/")
    room.tab.ask("document.querySelector('#views a').click()")
    room.tab.wait("location.search == '?modality=DX'")


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("width", [1280, 3840])
def test_axe_finds_no_serious_fault_and_nothing_is_cut_off(room: Room, theme: str, width: int) -> None:
    room.tab.size(width, width * 9 // 16)
    for name, path in (("list", "/"), ("ct", f"/studies/{room.ct}"), ("cxr", f"/studies/{room.cxr}"),
                       ("compared", f"/studies/{seed.builders.uid(3, 1)}"), ("feedback", "/feedback")):
        room.tab.open(f"{room.address}{path}?theme={theme}")
        if name in ("ct", "cxr"):
            room.tab.wait(DRAWN)
        assert faults(room.tab) == [] and room.tab.ask("broken") == [], name
        assert room.tab.ask("document.documentElement.scrollWidth <= innerWidth"), name
        room.tab.photograph(room.pictures / f"viewer-{name}-{theme}-{width}.png")
    room.tab.size(1280, 900)
