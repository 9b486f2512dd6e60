"""A PACS is asked how many images it holds: one that knows ends the wait, one that lies or is away stalls nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from service.domain.job import StudyState
from service.domain.study import CT_IMAGE_STORAGE
from service.store.tables import Study
from tests.builders import ct_series, uid, write
from tests.counting import QueryPacs, Says, dcmqrscp, images_of, series_of, study_of
from tests.hospital import TINY, Hospital, hospital, tiny_models
from tests.peers import HOST, free_port, orthanc, send, wait_until

CT_STUDY = uid(1, 1)
QUICK = {"start_early": False, "ask_after_s": 0.1, "ask_every_s": 0.3}


@contextmanager
def asking(folder: Path, ae_title: str, port: int, quiet_s: float = 600, timeout_s: float = 5.0) -> Iterator[Hospital]:
    """Run a service that asks a PACS; without its answer it would wait for quiet_s."""
    models = tiny_models(folder / "models")
    ask = [{"name": "archive", "ae_title": ae_title, "host": HOST, "port": port, "timeout_s": timeout_s}]
    assemble: dict[str, Any] = QUICK | {"quiet_ct_s": quiet_s, "ask": ask}
    with hospital(folder / "house", infer=TINY | {"models_dir": models}, assemble=assemble) as house:
        yield house


def complete(house: Hospital) -> Study:
    found: Study = wait_until(lambda: (s := house.study(CT_STUDY)).completed_at and s)
    return found


def told(house: Hospital, stage: str) -> list[str]:
    return [line for line in house.trace(CT_STUDY) if line.startswith(f"{stage}: ")]


def check_against(folder: Path, ae_title: str, port: int) -> None:
    """Send a study to a PACS and, but for two slices, to us: it is complete once these two have come."""
    images = ct_series()
    assert send(write(images, folder / "sent"), HOST, port, "CT1", ae_title).returncode == 0
    with asking(folder, ae_title, port) as house:
        assert house.app.listener is not None
        files = write(images, folder / "again")
        assert send(files[:-2], HOST, house.app.listener.port, "CT1").returncode == 0
        wait_until(lambda: any("names 40 images, 38 are here" in line for line in told(house, "asked")))
        assert house.study(CT_STUDY).completed_at is None
        assert send(files[-2:], HOST, house.app.listener.port, "CT1").returncode == 0
        complete(house)
        assert told(house, "complete") == ["complete: archive twice named 40 images, all are here"]
        assert house.delivered(CT_STUDY).state == StudyState.ASSESSED
        assert house.app.metrics.registry.get_sample_value(
            "firstlook_completions_total", {"reason": "pacs_count"}) == 1


@pytest.mark.peer
def test_dcmtk_as_the_pacs_that_is_asked(tmp_path: Path) -> None:
    with dcmqrscp(tmp_path) as port:
        check_against(tmp_path, "QRSCP", port)


@pytest.mark.peer
def test_orthanc_as_the_pacs_that_is_asked(tmp_path: Path) -> None:
    with orthanc(tmp_path / "orthanc", {"FIRSTLOOK": (HOST, 104)}) as server:
        check_against(tmp_path, server.ae_title, server.port)


SERIES = uid(1, 1, 1)


def _named(asked: Dataset, count: int) -> list[Dataset]:
    if asked.QueryRetrieveLevel == "STUDY":
        return [study_of(asked, count)]
    if asked.QueryRetrieveLevel == "SERIES":
        return series_of(asked, {SERIES: ("CT", count)})
    return images_of(asked, [CT_IMAGE_STORAGE] * count)


def _growing(first: int) -> Says:
    """Return what a PACS says that holds one more image at each question about the study."""
    held = [first - 1]

    def says(asked: Dataset, before: int) -> list[Dataset]:
        held[0] += asked.QueryRetrieveLevel == "STUDY"
        return _named(asked, held[0])

    return says


@pytest.mark.parametrize("says", [
    pytest.param(lambda asked, n: _named(asked, 38), id="fewer"),
    pytest.param(lambda asked, n: _named(asked, 50), id="more"),
    pytest.param(_growing(39), id="growing"),
    pytest.param(lambda asked, n: [], id="nothing"),
    pytest.param(lambda asked, n: "stall", id="stalls"),
    pytest.param(lambda asked, n: "abort", id="aborts"),
    pytest.param(lambda asked, n: 0xC001, id="fails"),
])
def test_pacs_that_lies_or_does_not_answer_stalls_no_study(tmp_path: Path, says: Any) -> None:
    with QueryPacs(says) as pacs, asking(tmp_path, "COUNTS", pacs.port, quiet_s=5.0, timeout_s=0.5) as house:
        house.send(*ct_series())
        complete(house)
        (why,) = told(house, "complete")
        assert "association released and no image for 5 s" in why and pacs.asked
        assert house.delivered(CT_STUDY).state == StudyState.ASSESSED


def test_pacs_that_is_away_is_left_alone_for_a_while(tmp_path: Path) -> None:
    with asking(tmp_path, "COUNTS", free_port(), quiet_s=1.0, timeout_s=0.5) as house:
        house.send(*ct_series())
        complete(house)
        assert "did not answer" in told(house, "asked")[0]
        assert house.app.metrics.registry.get_sample_value("firstlook_inquiries_total", {"outcome": "failed"}) == 1
