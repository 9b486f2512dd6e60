"""How many images of a study a PACS holds, asked over the wire: whatever it counts, leaves out or gets wrong."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.dataset import Dataset

from service.deliver.cstore import CStoreTarget
from service.deliver.inquiry import Inquiry
from service.domain.study import CT_IMAGE_STORAGE
from service.errors import FirstlookError, PeerUnavailable, RefusedByPeer
from tests.counting import QueryPacs, Says, images_of, series_of, study_of
from tests.peers import HOST, free_port

STUDY, CT, OTHER = "1.2.3", "1.2.3.1", "1.2.3.2"
DOSE_REPORT, CAPTURE = "1.2.840.10008.5.1.4.1.1.88.67", "1.2.840.10008.5.1.4.1.1.7"


def ask(says: Says, held: dict[str, int], timeout_s: float = 5.0) -> tuple[int, list[str]]:
    """Return what a PACS answers, and the levels that it was asked at."""
    with QueryPacs(says) as pacs:
        number = Inquiry(CStoreTarget("pacs", "COUNTS", HOST, pacs.port, "FIRSTLOOK", timeout_s)).images(STUDY, held)
        return number, pacs.asked


def scripted(study: object, series: dict[str, tuple[str, int | None]], images: dict[str, list[str]] | None = None) -> Says:
    """Return what a PACS says that holds this."""

    def says(asked: Dataset, before: int) -> Any:
        if asked.QueryRetrieveLevel == "STUDY":
            return [study_of(asked, study)]
        if asked.QueryRetrieveLevel == "SERIES":
            return series_of(asked, series)
        return images_of(asked, (images or {})[asked.SeriesInstanceUID])

    return says


def test_number_of_the_study_is_enough_when_it_is_what_is_here() -> None:
    assert ask(scripted(40, {}), {CT: 30, OTHER: 10}) == (40, ["STUDY"])


def test_reports_and_our_own_results_are_not_counted() -> None:
    series: dict[str, tuple[str, int | None]] = {CT: ("CT", 40), "1.9.1": ("SR", 2), "1.9.2": ("SEG", 1), "1.9.3": ("PR", 4)}
    assert ask(scripted(47, series), {CT: 40}) == (40, ["STUDY", "SERIES"])


def test_images_of_a_series_that_differs_are_counted_by_class() -> None:
    says = scripted(44, {CT: ("CT", 40), OTHER: ("CT", 4)}, {OTHER: [CT_IMAGE_STORAGE] * 3 + [CAPTURE]})
    assert ask(says, {CT: 40}) == (43, ["STUDY", "SERIES", "IMAGE"])


@pytest.mark.parametrize("number", [None, "", "-3", "99999999999"])
def test_pacs_that_leaves_numbers_out_or_names_absurd_ones_has_its_images_counted(number: object) -> None:
    says = scripted(number, {CT: ("CT", None), "1.9": ("SR", None)}, {CT: [CT_IMAGE_STORAGE] * 5 + [DOSE_REPORT]})
    assert ask(says, {CT: 5}) == (5, ["STUDY", "SERIES", "IMAGE"])


def test_pacs_without_the_study_holds_no_image() -> None:
    assert ask(lambda asked, before: [], {CT: 5})[0] == 0


@pytest.mark.parametrize(("said", "error"), [
    ("stall", PeerUnavailable), ("abort", PeerUnavailable), (0xA700, PeerUnavailable), (0xC001, RefusedByPeer),
    (0xA900, RefusedByPeer),
])
def test_pacs_that_does_not_answer_is_an_error_in_bounded_time(said: Any, error: type[FirstlookError]) -> None:
    with pytest.raises(error):
        ask(lambda asked, before: said, {CT: 5}, timeout_s=0.5)


def test_endless_matches_end_as_an_error() -> None:
    with pytest.raises(PeerUnavailable, match="too many"):
        ask(lambda asked, before: [study_of(asked, 1)] * 50, {CT: 5})


def test_pacs_that_is_away_is_unavailable() -> None:
    with pytest.raises(PeerUnavailable):
        Inquiry(CStoreTarget("pacs", "COUNTS", HOST, free_port(), "FIRSTLOOK", 1.0)).images(STUDY, {CT: 5})
