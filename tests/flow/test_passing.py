"""A look under way stands still while a more urgent study passes it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from service.domain.job import StudyState
from service.domain.urgency import Urgency
from service.triage.turns import Pace, Turns
from tests.builders import ct_series, radiograph, uid
from tests.hospital import TINY, hospital, tiny_models
from tests.peers import wait_until

CT_STUDY, CXR_STUDY = uid(1, 1), uid(2, 1)
QUICK = {"quiet_cxr_s": 0.2, "quiet_ct_s": 0.3, "early_cxr_s": 0.1, "early_ct_s": 0.2}


@contextmanager
def held(turns: Turns, urgency: Urgency, ahead: bool = False) -> Iterator[None]:
    """Have something else under way meanwhile, on a thread of its own."""
    end = threading.Event()

    def hold() -> None:
        with turns.taken(urgency, ahead=ahead):
            assert end.wait(60)

    other = threading.Thread(target=hold)
    other.start()
    try:
        yield
    finally:
        end.set()
        other.join(60)


def test_urgent_radiograph_passes_a_ct_in_progress_which_then_goes_on(tmp_path: Path) -> None:
    models = tiny_models(tmp_path / "models")
    with hospital(tmp_path / "house", infer=TINY | {"models_dir": models}, assemble=QUICK) as house:
        assert house.app.line is not None
        turns = house.app.line.turns
        with held(turns, Urgency.URGENT):
            house.send(*ct_series())
            wait_until(lambda: any(turn.standing for turn in turns.under_way), 60)
            house.send(radiograph(StudyDescription="TRAUMA"))
            assert house.delivered(CXR_STUDY).state == StudyState.ASSESSED
            assert house.study(CT_STUDY).state == StudyState.INFERRING
        assert house.delivered(CT_STUDY).state == StudyState.ASSESSED
        assert any(line.startswith("held: stood still ") for line in house.trace(CT_STUDY))
        counted = house.app.metrics.registry.get_sample_value
        assert (counted("firstlook_look_held_seconds_total", {"urgency": "routine"}) or 0) > 0


def test_a_radiograph_passes_a_ct_of_its_urgency(tmp_path: Path) -> None:
    models = tiny_models(tmp_path / "models")
    with hospital(tmp_path / "house", infer=TINY | {"models_dir": models}, assemble=QUICK) as house:
        assert house.app.line is not None
        turns = house.app.line.turns
        with held(turns, Urgency.STAT, ahead=True):  # looks stand still for it, and may be begun beside it
            house.send(*ct_series())
            wait_until(lambda: any(turn.standing for turn in turns.under_way), 60)
            assert turns.front is not None and turns.front.pace is not Pace.MOMENT
            house.send(radiograph())
            wait_until(lambda: turns.front is not None and turns.front.pace is Pace.MOMENT, 60)
        for study in (CXR_STUDY, CT_STUDY):
            assert house.delivered(study).urgency == Urgency.ROUTINE


def test_radiographs_pass_the_documents_of_one_or_two_others_of_their_urgency(tmp_path: Path) -> None:
    models, others = tiny_models(tmp_path / "models"), [uid(patient, 1) for patient in (2, 3, 4)]
    with hospital(tmp_path / "house", infer=TINY | {"models_dir": models}, assemble=QUICK) as house:
        assert house.app.line is not None
        turns = house.app.line.turns

        def is_queued_and_under_way(study: str, looks: int) -> bool:
            return house.study(study).state != StudyState.RECEIVING and turns.under_way_of(Urgency.ROUTINE) == looks

        with held(turns, Urgency.STAT, ahead=True):  # looks stand still for it, and may be begun beside it
            for patient, study, looks in zip((2, 3, 4), others, (1, 2, 2), strict=True):
                house.send(radiograph(patient=patient))
                wait_until(partial(is_queued_and_under_way, study, looks), 60)
                for turn in turns.under_way:
                    turn.pace = turn.pace if turn.ahead else Pace.DOCUMENTS
            time.sleep(1.5)
            assert turns.under_way_of(Urgency.ROUTINE, Pace.DOCUMENTS) == 2
            assert house.study(others[2]).state == StudyState.QUEUED
        for study in others:
            assert house.delivered(study).state == StudyState.ASSESSED


def test_the_first_look_at_a_ct_passes_the_rest_of_another_of_its_urgency(tmp_path: Path) -> None:
    models = tiny_models(tmp_path / "models")
    infer, other = TINY | {"models_dir": models, "first_look_mm": 10.0}, uid(3, 1)
    with hospital(tmp_path / "house", infer=infer, assemble=QUICK, work={"ahead_bytes": 0}) as house:
        assert house.app.line is not None
        turns = house.app.line.turns
        with held(turns, Urgency.STAT, ahead=True):  # looks stand still for it, and may be begun beside it
            house.send(*ct_series())
            wait_until(lambda: any(turn.standing for turn in turns.under_way), 60)
            assert turns.front is not None and turns.front.pace is Pace.FIRST
            house.send(*ct_series(patient=3, slices=30))
            wait_until(lambda: house.study(other).state == StudyState.QUEUED, 60)
            assert turns.under_way_of(Urgency.ROUTINE) == 1, "neither has told anything"
            turns.front.pace = Pace.WHOLE
            wait_until(lambda: turns.under_way_of(Urgency.ROUTINE) == 2, 60)
            assert turns.front.pace is Pace.FIRST
        for study in (CT_STUDY, other):
            assert house.delivered(study).state == StudyState.ASSESSED
        assert any(line.startswith("first_look") for line in house.trace(other))
        first, second = (house.study(study).assessed_at for study in (CT_STUDY, other))
        assert first is not None and second is not None and first < second, "what was left of both went by deadline"


def test_with_no_loop_for_it_a_look_is_never_passed(tmp_path: Path) -> None:
    models = tiny_models(tmp_path / "models")
    with hospital(tmp_path / "house", infer=TINY | {"models_dir": models}, assemble=QUICK, work={"passing": 0}) as house:
        house.send(*ct_series())
        house.send(radiograph(StudyDescription="TRAUMA"))
        assert house.delivered(CXR_STUDY).urgency == Urgency.STAT and house.delivered(CT_STUDY).urgency == Urgency.ROUTINE
        assert not any(line.startswith("held") for study in (CXR_STUDY, CT_STUDY) for line in house.trace(study))
