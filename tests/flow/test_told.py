"""What was found is on the worklist before the documents for the PACS are made."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from service.domain.job import StudyState
from service.errors import Reason, Rejected
from service.pipeline import run
from service.store.tables import Event
from tests.builders import ct_series, radiograph, uid
from tests.hospital import TINY, Hospital, hospital, tiny_models
from tests.peers import wait_until

CXR_STUDY, CT_STUDY = uid(2, 1), uid(1, 1)
QUICK = {"quiet_cxr_s": 0.2, "quiet_ct_s": 0.3, "early_cxr_s": 0.1, "early_ct_s": 0.2}


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Documents are made when this is set, and not before."""
    made, build = threading.Event(), run.build

    def late(**asked: Any) -> Any:
        assert made.wait(60)
        return build(**asked)

    monkeypatch.setattr(run, "build", late)
    return made


def moments(house: Hospital, study: str) -> dict[str, float]:
    return {event.stage: event.at for event in house.rows(Event, study)}


def test_a_radiograph_is_told_of_before_its_documents_and_not_as_a_first_look(held: threading.Event, tmp_path: Path) -> None:
    models = tiny_models(tmp_path / "models")
    with hospital(tmp_path / "house", infer=TINY | {"models_dir": models}, assemble=QUICK) as house:
        house.send(radiograph())
        early = wait_until(lambda: (s := house.study(CXR_STUDY)).summary.get("findings") and s, 60)
        assert early.state == StudyState.INFERRING and early.assessed_at is None and "first look" not in early.flag
        held.set()
        study, at = house.delivered(CXR_STUDY), moments(house, CXR_STUDY)
        assert study.summary["findings"] == early.summary["findings"] and "first_look" not in study.summary
        assert at["inferring"] <= at["told"] < at["reported"]
        counted = house.app.metrics.registry.get_sample_value
        labels = {"urgency": study.urgency, "kind": "cxr", "bundle": study.summary["bundle"]}
        notified = counted("firstlook_time_to_notification_seconds_sum", labels)
        assert notified == pytest.approx(at["told"] - study.last_received_at)
        assert not any(counted("firstlook_first_looks_total", {"outcome": o}) for o in ("confirmed", "raised", "withdrawn"))


def test_a_ct_too_thick_for_a_first_look_is_told_of_before_its_documents(held: threading.Event, tmp_path: Path) -> None:
    models = tiny_models(tmp_path / "models")
    with hospital(tmp_path / "house", infer=TINY | {"models_dir": models}, assemble=QUICK, work={"ahead_bytes": 0}) as house:
        house.send(*ct_series())
        assert wait_until(lambda: (s := house.study(CT_STUDY)).summary.get("findings") and s, 60).assessed_at is None
        held.set()
        house.delivered(CT_STUDY)
        at = moments(house, CT_STUDY)
        assert "first_look" not in at and at["told"] < at["reported"]


def test_what_was_told_stays_when_the_documents_cannot_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(**asked: Any) -> Any:
        raise Rejected(Reason.INTERNAL_ERROR, "no documents today")

    monkeypatch.setattr(run, "build", broken)
    models = tiny_models(tmp_path / "models")
    with hospital(tmp_path / "house", infer=TINY | {"models_dir": models}, assemble=QUICK) as house:
        house.send(radiograph())
        study = wait_until(lambda: (s := house.study(CXR_STUDY)).state == StudyState.FAILED and s, 60)
        assert study.summary["findings"] and study.summary["first_look"]["pending"]
        assert study.state_detail == "no documents today"
