"""Models look before the study is complete; what comes later revises the result, or lets it stand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from service.domain.job import DeliveryState, StudyState
from service.errors import Reason
from tests.builders import ct_series, radiograph, uid
from tests.hospital import TINY, Hospital, hospital, tiny_models
from tests.peers import Link, Raw, wait_until

CT_STUDY, CXR_STUDY = uid(1, 1), uid(2, 1)
LONG = {"quiet_cxr_s": 600, "quiet_ct_s": 600, "early_cxr_s": 0.2, "early_ct_s": 0.3}
LATERAL = {"ViewPosition": "LL", "SeriesDescription": "LAT"}


@contextmanager
def patient_house(folder: Path, **assemble: Any) -> Iterator[Hospital]:
    """Run a service that waits ten minutes for the end of a study, unless told otherwise."""
    models = tiny_models(folder / "models")
    with hospital(folder / "house", infer=TINY | {"models_dir": models}, assemble=LONG | assemble) as house:
        yield house


def is_open(house: Hospital, study: str) -> bool:
    return house.study(study).completed_at is None


def test_radiograph_is_in_the_pacs_while_its_association_is_still_open(tmp_path: Path) -> None:
    with patient_house(tmp_path) as house:
        assert house.app.listener is not None
        raw = Raw.of(radiograph())
        with Link(house.app.listener.port, [(raw.sop_class_uid, raw.transfer_syntax_uid)]) as modality:
            assert modality.store(raw) == 0
            study = house.delivered(CXR_STUDY)
            assert CXR_STUDY in house.app.listener.open_studies()
        assert (study.state, study.revision) == (StudyState.ASSESSED, 1) and is_open(house, CXR_STUDY)
        assert any(line.startswith("early: ") and "the radiograph is here" in line for line in house.trace(CXR_STUDY))
        counted = house.app.metrics.registry.get_sample_value
        assert counted("firstlook_early_starts_total", {"kind": "cxr"}) == 1
        assert counted("firstlook_completions_total", {"reason": "quiet"}) is None


def test_ct_is_looked_at_once_it_is_whole_and_released_not_when_the_timer_ends(tmp_path: Path) -> None:
    with patient_house(tmp_path) as house:
        assert house.app.listener is not None
        raws = [Raw.of(ds) for ds in ct_series()]
        with Link(house.app.listener.port, [(raws[0].sop_class_uid, raws[0].transfer_syntax_uid)]) as scanner:
            assert [scanner.store(r) for r in raws] == [0] * len(raws)
            wait_until(lambda: house.app.clock() - house.study(CT_STUDY).last_received_at > 1.0)
            assert house.study(CT_STUDY).state == StudyState.RECEIVING, "the association is still open"
        assert house.delivered(CT_STUDY).revision == 1 and is_open(house, CT_STUDY)
        assert any("40 slices" in line and "lie evenly" in line for line in house.trace(CT_STUDY))


def test_ct_with_a_gap_waits_for_the_end_of_the_study(tmp_path: Path) -> None:
    with patient_house(tmp_path, quiet_ct_s=2.0) as house:
        house.send(*(d for k, d in enumerate(ct_series()) if k != 15))
        house.delivered(CT_STUDY)
        stages = [line.split(":")[0] for line in house.trace(CT_STUDY)]
        assert "early" not in stages and "complete" in stages


def test_lateral_that_follows_lets_the_result_of_the_frontal_stand(tmp_path: Path) -> None:
    with patient_house(tmp_path, quiet_cxr_s=2.5) as house:
        house.send(radiograph())
        house.delivered(CXR_STUDY)
        house.send(radiograph(instance=2, **LATERAL))
        study = wait_until(lambda: (s := house.study(CXR_STUDY)).completed_at and s)
        assert (study.state, study.revision, study.delivery) == (StudyState.ASSESSED, 1, DeliveryState.DELIVERED)
        assert study.summary["findings"] and len(house.jobs(CXR_STUDY)) == 2
        assert any("the look at revision 1 stands" in line for line in house.trace(CXR_STUDY))


def test_second_frontal_revises_the_early_result_and_the_report_names_its_predecessor(tmp_path: Path) -> None:
    with patient_house(tmp_path) as house:
        house.send(radiograph())
        house.delivered(CXR_STUDY)
        first = next(o for o in house.objects(CXR_STUDY) if o.kind == "sr")
        house.send(radiograph(instance=2, image=np.tile(np.linspace(0, 1, 256), (256, 1))))
        house.delivered(CXR_STUDY, revision=2)
        report = house.in_pacs(CXR_STUDY)[-1]
        named = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
        assert named.ReferencedSOPInstanceUID == first.sop_instance_uid


def test_same_image_again_is_no_new_work(tmp_path: Path) -> None:
    with patient_house(tmp_path) as house:
        house.send(radiograph())
        first = house.delivered(CXR_STUDY)
        house.send(radiograph(), calling="DX2")
        wait_until(lambda: any("1 duplicate" in line for line in house.trace(CXR_STUDY)))
        again = house.study(CXR_STUDY)
        assert (again.state, again.revision, again.assessed_at) == (StudyState.ASSESSED, 1, first.assessed_at)
        assert len(house.jobs(CXR_STUDY)) == 2


def test_refusal_of_an_early_image_is_kept_out_of_the_pacs_until_the_study_is_complete(tmp_path: Path) -> None:
    with patient_house(tmp_path, quiet_cxr_s=3.0) as house:
        house.send(radiograph(image=np.full((256, 256), 0.5)))
        study = house.ended(CXR_STUDY)
        assert (study.state_reason, study.completed_at) == (Reason.BLANK_IMAGE.value, None)
        assert house.objects(CXR_STUDY) == []
        study = wait_until(lambda: (s := house.study(CXR_STUDY)).completed_at and s)
        assert (study.state, study.state_reason, study.revision) == (
            StudyState.NOT_ASSESSED, Reason.BLANK_IMAGE.value, 1)
        house.delivered(CXR_STUDY)
        assert [o.kind for o in house.objects(CXR_STUDY)] == ["sr"]


def test_image_that_can_be_read_replaces_an_early_refusal_of_which_the_pacs_never_heard(tmp_path: Path) -> None:
    with patient_house(tmp_path) as house:
        house.send(radiograph(image=np.full((256, 256), 0.5)))
        house.ended(CXR_STUDY)
        house.send(*ct_series(patient=2, series=7))
        study = house.delivered(CXR_STUDY, revision=2)
        assert (study.state, study.kind) == (StudyState.ASSESSED, "ct")
        assert "NOT ASSESSED" not in " ".join(str(d.SeriesDescription) for d in house.in_pacs(CXR_STUDY))


def test_late_stat_order_raises_a_study_whose_result_stands(tmp_path: Path) -> None:
    with patient_house(tmp_path) as house:
        house.send(radiograph())
        assert house.delivered(CXR_STUDY).urgency == "routine"
        house.send(radiograph(instance=2, RequestedProcedurePriority="STAT", **LATERAL))
        study = wait_until(lambda: (s := house.study(CXR_STUDY)).urgency == "stat" and s)
        assert (study.revision, study.state, study.reading_urgency) == (1, StudyState.ASSESSED, "stat")
