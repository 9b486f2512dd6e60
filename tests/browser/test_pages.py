"""The pages in Chromium: what is drawn, the keys, the refresh that moves nothing under the reader, both themes.

FIRSTLOOK_SCREENSHOTS names a folder that keeps the pictures.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from sqlmodel import select

from service.metrics import Metrics
from service.store.database import Database
from service.store.tables import Study
from service.web.app import WebStyle, create_app
from tests.browser import seed
from tests.browser.chromium import Tab, new_tab
from tests.browser.served import served

pytestmark = pytest.mark.peer
ORDER = "[...document.querySelectorAll('tr[data-uid]')].map(r => r.dataset.uid)"
FOCUSED = "document.activeElement.closest('tr')?.dataset.uid"
CONTRAST = """(() => {
  const parse = (c) => c.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, k) => sum + v * [.2126, .7152, .0722][k], 0);
  const ground = (e) => { for (; e; e = e.parentElement) {
    const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length == 3 || c[3] > 0) return c; } return [255, 255, 255]; };
  const low = [];
  for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some(n => n.nodeType == 3 && n.data.trim()) || !e.checkVisibility()) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))].sort((p, q) => q - p);
    if ((a + .05) / (b + .05) < 4.5) low.push(e.textContent.trim().slice(0, 40) + ' ' + (a + .05) / (b + .05));
  }
  return low;
})()"""


class Desk:
    """A seeded store, its pages on a real port, and a browser."""

    def __init__(self, database: Database, address: str, tab: Tab, studies: list[Study], pictures: Path) -> None:
        self.database, self.address, self.tab, self.studies, self.pictures = database, address, tab, studies, pictures
        self.uids = [study.study_instance_uid for study in studies]

    def arrive(self, number: int, urgency: str) -> str:
        """Put one more study into the store and return its UID."""
        with self.database.transaction() as session:
            study = seed.study(number, time.time(), 30, "queued", reading=urgency, ordered=urgency)
            session.add(study)
        return study.study_instance_uid


@pytest.fixture
def desk(tmp_path: Path, chromium: Browser) -> Iterator[Desk]:
    database = Database(f"sqlite:///{tmp_path / 'desk.db'}")
    database.migrate()
    studies = seed.fill(database, time.time(), tmp_path / "results")
    app = create_app(database, Metrics(), time.time, WebStyle(refresh_s=1), tuple, tmp_path / "results")
    pictures = Path(os.environ.get("FIRSTLOOK_SCREENSHOTS", tmp_path))
    pictures.mkdir(parents=True, exist_ok=True)
    with served(app) as address, new_tab(chromium) as tab:
        yield Desk(database, address, tab, studies, pictures)
    database.close()


@pytest.mark.parametrize("width", [1280, 3840])
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_pages_are_drawn_readable_in_both_themes(desk: Desk, theme: str, width: int) -> None:
    desk.tab.size(width, width * 9 // 16)
    cxr, ct = f"/studies/{desk.uids[0]}", f"/studies/{desk.uids[2]}"
    for name, path in (("worklist", "/"), ("study-cxr", cxr), ("study-ct", ct)):
        desk.tab.open(f"{desk.address}{path}?theme={theme}")
        assert desk.tab.ask(CONTRAST) == [], "every text has a contrast of 4.5 at least (WCAG AA)"
        assert desk.tab.ask("document.documentElement.scrollWidth <= innerWidth"), "nothing is cut off at the side"
        desk.tab.wait("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        desk.tab.photograph(desk.pictures / f"{name}-{theme}-{width}.png")


def test_the_worklist_holds_the_rows_in_order_and_runs_no_foreign_text(desk: Desk) -> None:
    desk.tab.open(f"{desk.address}/")
    assert desk.tab.ask(ORDER) == desk.uids
    assert desk.tab.ask("document.querySelectorAll('tbody script, tbody img, tbody i').length") == 0
    assert desk.tab.ask("document.body.innerText.includes('Research use only. Not for clinical diagnosis.')")


def test_flags_differ_in_shape_and_word_not_only_in_colour(desk: Desk) -> None:
    desk.tab.open(f"{desk.address}/")
    drawn = "f => f.innerText + f.firstElementChild.innerHTML"
    flags = desk.tab.ask(f"[...document.querySelectorAll('tbody .flag')].map({drawn})")
    shapes = {re.sub(r"<.*", "", flag, flags=re.S).strip().lower(): re.sub(r"^[^<]*", "", flag) for flag in flags}
    assert set(shapes) == {"stat", "urgent", "routine", "low"}
    assert len(set(shapes.values())) == 4


def test_new_studies_appear_by_themselves(desk: Desk) -> None:
    desk.tab.open(f"{desk.address}/")
    arrived = desk.arrive(50, "stat")
    desk.tab.wait(f"{ORDER}.includes('{arrived}')")
    assert desk.tab.ask(ORDER).index(arrived) == 2


def test_j_k_and_enter_move_through_the_list_and_open_a_study(desk: Desk) -> None:
    desk.tab.open(f"{desk.address}/")
    for key, place in (("j", 0), ("j", 1), ("j", 2), ("k", 1)):
        desk.tab.press(key)
        assert desk.tab.ask(FOCUSED) == desk.uids[place]
    desk.tab.press("Enter")
    desk.tab.wait(f"location.pathname == '/studies/{desk.uids[1]}' && document.readyState == 'complete'")
    desk.tab.press("Escape")
    desk.tab.wait("location.pathname == '/'")


def test_nothing_moves_under_the_pointer_until_the_reader_agrees(desk: Desk) -> None:
    desk.tab.open(f"{desk.address}/")
    row = f"tr[data-uid='{desk.uids[3]}'] td"
    desk.tab.point_at(row)
    arrived = desk.arrive(51, "stat")
    desk.tab.wait("document.getElementById('waiting').checkVisibility()")
    assert desk.tab.ask(ORDER) == desk.uids
    desk.tab.press("r")
    assert desk.tab.ask(ORDER).index(arrived) == 2
    assert desk.tab.ask("document.getElementById('waiting').hidden")


def test_a_row_under_a_resting_pointer_stays_in_its_place_when_the_order_changes_by_itself(desk: Desk) -> None:
    desk.tab.open(f"{desk.address}/")
    row = f"tr[data-uid='{desk.uids[6]}']"
    top = f"document.querySelector(\"{row}\").getBoundingClientRect().top"
    desk.tab.point_at(f"{row} td")
    before = desk.tab.ask(top)
    arrived = desk.arrive(55, "stat")
    desk.tab.wait(f"{ORDER}.includes('{arrived}')")
    assert abs(desk.tab.ask(top) - before) <= 1, "after ten seconds of rest the order is taken, around this row"
    with desk.database.transaction() as session:
        for number in (1, 2):
            study = session.exec(select(Study).where(Study.study_instance_uid == desk.uids[number])).one()
            study.read_at, study.read_by, study.read_rank = time.time(), "anna", study.reading_rank
            study.last_received_at = study.first_received_at
            session.add(study)
    desk.tab.wait(f"!{ORDER}.includes('{desk.uids[1]}')")
    assert abs(desk.tab.ask(top) - before) <= 1, "nor does it move up when rows above it go"


def test_what_changes_in_a_row_is_shown_while_the_order_is_held(desk: Desk) -> None:
    desk.tab.open(f"{desk.address}/")
    desk.tab.point_at(f"tr[data-uid='{desk.uids[3]}'] td")
    desk.arrive(52, "stat")
    with desk.database.transaction() as session:
        study = session.get_one(Study, desk.studies[8].id)
        study.state = "inferring"
        session.add(study)
    desk.tab.wait(f"document.querySelector(\"tr[data-uid='{desk.uids[8]}']\").innerText.includes('Model is running')")
    assert desk.tab.ask(ORDER) == desk.uids
    desk.tab.point_away()
    desk.tab.wait(f"{ORDER}.length == {len(desk.uids) + 1}")


def test_the_focused_row_keeps_focus_and_place_when_the_list_changes(desk: Desk) -> None:
    desk.tab.size(1280, 400)
    desk.tab.open(f"{desk.address}/")
    for _ in range(8):
        desk.tab.press("j")
    top = "document.activeElement.closest('tr').getBoundingClientRect().top"
    uid, before = desk.tab.ask(FOCUSED), desk.tab.ask(top)
    arrived = desk.arrive(53, "stat")
    desk.tab.wait("document.getElementById('waiting').checkVisibility()")
    desk.tab.press("r")
    desk.tab.wait(f"{ORDER}.includes('{arrived}')")
    assert desk.tab.ask(FOCUSED) == uid
    assert abs(desk.tab.ask(top) - before) <= 1


def test_a_list_that_is_no_longer_fresh_says_so(desk: Desk) -> None:
    desk.tab.open(f"{desk.address}/")
    desk.tab.cut_off(True)
    desk.tab.wait("document.getElementById('status').innerText.startsWith('No answer: this list is of')")
    assert desk.tab.ask("document.getElementById('status').classList.contains('lost')")
    desk.tab.cut_off(False)
    desk.tab.wait("/^(Live|Updated)/.test(document.getElementById('status').innerText)")
    assert not desk.tab.ask("document.getElementById('status').classList.contains('lost')")


def test_the_theme_is_dark_until_the_reader_chooses_and_then_kept(desk: Desk) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    desk.tab.open(f"{desk.address}/")
    dark = desk.tab.ask(ground)
    desk.tab.ask("document.getElementById('theme').click()")
    light = desk.tab.ask(ground)
    assert light != dark
    desk.tab.open(f"{desk.address}/studies/{desk.uids[0]}")
    assert desk.tab.ask(ground) == light


def test_a_row_marked_read_stays_where_it_is_until_the_reader_agrees_and_can_be_undone(desk: Desk) -> None:
    desk.tab.open(f"{desk.address}/")
    row = f"document.querySelector(\"tr[data-uid='{desk.uids[0]}']\")"
    desk.tab.press("j")
    desk.tab.press("m")
    desk.tab.wait(f"{row}.classList.contains('done')")
    assert desk.tab.ask(ORDER) == desk.uids
    desk.tab.press("m")
    desk.tab.wait(f"!{row}.classList.contains('done')")
    desk.tab.press("m")
    desk.tab.wait(f"{row}.classList.contains('done')")
    desk.tab.wait("document.getElementById('waiting').checkVisibility()")
    desk.tab.press("r")
    desk.tab.wait(f"{ORDER}.length == {len(desk.uids) - 1}")
    desk.tab.open(f"{desk.address}/?shown=read")
    assert desk.tab.ask(ORDER) == [desk.uids[0]]
    desk.tab.ask("document.querySelector('.mark-read').click()")
    desk.tab.wait(f"{ORDER}.length == 0")


def test_an_answer_of_before_the_mark_does_not_take_it_off_the_row(desk: Desk) -> None:
    desk.tab.open(f"{desk.address}/")
    row = f"document.querySelector(\"tr[data-uid='{desk.uids[0]}']\")"
    desk.tab.ask("""(() => { const ask = window.fetch; window.given = 0; window.fetch = async (...what) => {
      const answer = await ask(...what);
      if (String(what[0]).includes('/rows') && !window.given) {
        await new Promise(ok => { window.letGo = ok; });
        window.given = 1;
      }
      return answer; }; })()""")
    desk.tab.wait("!!window.letGo")
    desk.tab.press("j")
    desk.tab.press("m")
    desk.tab.wait(f"{row}.classList.contains('done')")
    desk.tab.ask("letGo()")
    desk.tab.wait("given && document.getElementById('waiting').checkVisibility()")
    assert desk.tab.ask(f"{row}.classList.contains('done') && {row}.innerText.includes('Undo')")


def test_a_study_is_marked_read_on_its_page(desk: Desk) -> None:
    desk.tab.open(f"{desk.address}/studies/{desk.uids[0]}")
    desk.tab.ask("document.getElementById('mark-read').click()")
    desk.tab.wait("document.readyState == 'complete' && document.getElementById('mark-read')?.innerText == 'Undo'")
    desk.tab.ask("document.getElementById('mark-read').click()")
    desk.tab.wait("document.readyState == 'complete' && document.getElementById('mark-read')?.innerText == 'Mark read'")


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_a_reader_disagrees_with_a_finding_and_the_page_of_feedback_counts_it(desk: Desk, theme: str) -> None:
    study = f"{desk.address}/studies/{desk.uids[0]}?theme={theme}"
    desk.tab.open(study)
    desk.tab.ask("document.querySelector('.verdict summary').click()")
    assert desk.tab.ask(CONTRAST) == []
    desk.tab.photograph(desk.pictures / f"verdict-{theme}-1280.png")
    desk.tab.ask("document.querySelector('.verdict select').value = 'artefact'")
    desk.tab.ask("document.querySelector('.verdict button[value=disagree]').click()")
    desk.tab.wait("document.readyState == 'complete' && document.querySelector('.opinion')?.innerText.includes('artefact')")
    desk.tab.open(f"{desk.address}/studies/{desk.uids[2]}")
    desk.tab.ask("document.querySelector('.verdict button[value=agree]').click()")
    desk.tab.wait("document.readyState == 'complete' && document.querySelector('.opinion')?.innerText.includes('Agrees')")
    for width in (1280, 3840):
        desk.tab.size(width, width * 9 // 16)
        desk.tab.open(f"{desk.address}/feedback?theme={theme}")
        assert desk.tab.ask(CONTRAST) == [] and desk.tab.ask("document.documentElement.scrollWidth <= innerWidth")
        assert desk.tab.ask("document.querySelector('.ppv tbody').rows.length") == 2
        desk.tab.photograph(desk.pictures / f"feedback-{theme}-{width}.png")


def test_a_filter_narrows_the_list_and_stands_in_the_address_and_a_search_does_not(desk: Desk) -> None:
    desk.tab.open(f"{desk.address}/")
    desk.tab.ask("(s => { s.value = 'not_assessed'; s.dispatchEvent(new Event('change', {bubbles: true})); })"
                 "(document.querySelector('select[name=state]'))")
    desk.tab.wait(f"{ORDER}.length == 2")
    assert desk.tab.ask("location.search") == "?state=not_assessed"
    desk.tab.press("/")
    for key in "kowalska":
        desk.tab.press(key)
    desk.tab.wait(f"{ORDER}.join() == '{desk.uids[6]}'")
    assert desk.tab.ask("location.search") == "?state=not_assessed"
    desk.tab.press("Escape")
    desk.tab.press("j")
    assert desk.tab.ask(FOCUSED) == desk.uids[6], "the letters went into the search, and moved nothing"
    desk.tab.press("Enter")
    desk.tab.wait(f"location.pathname == '/studies/{desk.uids[6]}' && document.readyState == 'complete'")
    desk.tab.press("Escape")
    desk.tab.wait(f"location.search == '?state=not_assessed' && document.readyState == 'complete' && {ORDER}.length == 2")
    desk.tab.ask("document.getElementById('clear').click()")
    desk.tab.wait(f"document.readyState == 'complete' && {ORDER}.length == {len(desk.uids)}")


def test_a_search_goes_on_while_the_list_is_refreshed(desk: Desk) -> None:
    desk.tab.open(f"{desk.address}/")
    desk.tab.ask("(t => { t.value = 'chest lateral'; t.dispatchEvent(new Event('input', {bubbles: true})); })"
                 "(document.getElementById('text'))")
    desk.tab.wait(f"{ORDER}.length == 2")
    seen = desk.tab.ask("document.getElementById('news').dataset.at")
    desk.arrive(54, "stat")
    desk.tab.wait(f"document.getElementById('news').dataset.at != '{seen}'")
    assert desk.tab.ask(f"{ORDER}.length") == 2
