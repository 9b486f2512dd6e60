"""Others announce what belongs to a study: it is complete when all of that is here, and what is missing is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pynetdicom.sop_class import InstanceAvailabilityNotification as AVAILABILITY  # noqa: N814
from pynetdicom.sop_class import ModalityPerformedProcedureStep as STEP  # noqa: N814

from service.domain.job import StudyState
from service.explain import explain
from service.store.tables import Study
from tests.announcing import announcing, availability, change, create, performed, step
from tests.builders import ct_series, radiograph, uid
from tests.hospital import TINY, Hospital, hospital, tiny_models
from tests.peers import wait_until

CT_STUDY = uid(1, 1)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Hospital]:
    """Run a service that would wait ten minutes and looks at nothing early."""
    models = tiny_models(tmp_path / "models")
    waits = {"quiet_cxr_s": 600, "quiet_ct_s": 600, "start_early": False}
    with hospital(tmp_path / "house", infer=TINY | {"models_dir": models}, assemble=waits) as one:
        yield one


def complete(house: Hospital) -> Study:
    found: Study = wait_until(lambda: (s := house.study(CT_STUDY)).completed_at and s)
    return found


def why(house: Hospital) -> str:
    return next(line for line in house.trace(CT_STUDY) if line.startswith("complete: "))


@pytest.mark.parametrize("implicit", [False, True])
def test_study_is_complete_when_all_is_here_that_is_announced_as_available(house: Hospital, implicit: bool) -> None:
    images = ct_series()
    house.send(*images)
    assert house.app.listener is not None
    with announcing(house.app.listener.port, implicit=implicit) as ris:
        assert create(ris, AVAILABILITY, "1.2.3", availability(images)) == 0
    complete(house)
    assert why(house) == "complete: instances announced as available by RIS; all 40 images are here"
    assert house.delivered(CT_STUDY).state == StudyState.ASSESSED
    counted = house.app.metrics.registry.get_sample_value
    assert counted("firstlook_completions_total", {"reason": "announced"}) == 1
    assert counted("firstlook_notices_total", {"kind": "availability", "outcome": "new"}) == 1


def test_notice_may_come_before_the_first_image(house: Hospital) -> None:
    images = ct_series()
    assert house.app.listener is not None
    with announcing(house.app.listener.port) as ris:
        assert create(ris, AVAILABILITY, "1.2.3", availability(images)) == 0
        assert create(ris, AVAILABILITY, "1.2.3", availability(images)) == 0
    house.send(*images)
    complete(house)
    assert "all 40 images are here" in why(house)


def test_completed_procedure_step_ends_the_wait_and_one_in_progress_does_not(house: Hospital) -> None:
    images = ct_series()
    house.send(*images)
    assert house.app.listener is not None
    with announcing(house.app.listener.port) as modality:
        assert create(modality, STEP, "1.2.4", step(CT_STUDY)) == 0
        assert create(modality, STEP, "1.2.4", step(CT_STUDY)) == 0x0111
        assert change(modality, "1.2.5", performed(images)) == 0x0112
        assert change(modality, "1.2.4", performed(images[:20], "IN PROGRESS")) == 0
        assert house.study(CT_STUDY).completed_at is None
        assert change(modality, "1.2.4", performed(images)) == 0
        assert change(modality, "1.2.4", performed(images)) == 0x0110
    complete(house)
    assert why(house) == "complete: procedure step completed, told by RIS; all 40 images are here"
    assert sum("announced: " in line for line in house.trace(CT_STUDY)) == 3


def test_missing_images_are_named_on_the_page_and_by_explain_until_they_come(house: Hospital) -> None:
    images = ct_series()
    house.send(*images[:-2])
    assert house.app.listener is not None
    with announcing(house.app.listener.port) as ris:
        assert create(ris, AVAILABILITY, "1.2.3", availability(images)) == 0

    def explained() -> str:
        return "\n".join(explain(house.app.database, CT_STUDY) or ())

    assert "38 of 40 announced images are here" in explained()
    assert images[-1].SOPInstanceUID in explained() and images[0].SOPInstanceUID not in explained()
    assert house.study(CT_STUDY).completed_at is None
    house.send(*images[-2:])
    complete(house)
    assert "all 40 images are here" in why(house) and images[-1].SOPInstanceUID not in explained()


def test_study_of_which_images_are_missing_does_not_stall(tmp_path: Path) -> None:
    models = tiny_models(tmp_path / "models")
    waits = {"quiet_ct_s": 1.0, "start_early": False}
    with hospital(tmp_path / "house", infer=TINY | {"models_dir": models}, assemble=waits) as house:
        assert house.app.listener is not None
        images = ct_series()
        with announcing(house.app.listener.port) as ris:
            assert create(ris, AVAILABILITY, "1.2.3", availability(images)) == 0
        house.send(*images[:-2])
        house.delivered(CT_STUDY)
        assert "2 of 40 images are missing" in why(house)


def test_notice_that_cannot_be_read_is_refused_and_the_next_study_goes_through(house: Hospital) -> None:
    assert house.app.listener is not None
    broken = availability([radiograph()])
    del broken.StudyInstanceUID
    with announcing(house.app.listener.port) as ris:
        assert create(ris, AVAILABILITY, "1.2.3", broken) == 0x0106
        assert create(ris, STEP, "1.2.4", step(CT_STUDY, "NONSENSE")) == 0x0106
        assert create(ris, AVAILABILITY, "1.2.5", availability([radiograph()])) == 0
    house.send(radiograph())
    assert house.delivered(uid(2, 1)).state == StudyState.ASSESSED
