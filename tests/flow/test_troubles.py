"""What goes wrong in a department, and how it ends: a PACS away for an hour, a clock that jumps, a bundle that always fails.

Hours pass by a clock that the test moves. A restart is in test_crash, the loss of a machine in test_nodes.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest
from sqlmodel import select

from service import cli
from service.app import App
from service.domain.job import DeliveryState, JobKind, JobState, StudyState
from service.store.activations import switch
from service.store.tables import Job
from tests.builders import ct_series, radiograph, uid
from tests.hospital import TINY, Hospital, hospital, settings_for, tiny_models
from tests.peers import ScriptedPacs, free_port, wait_until
from tests.tiny_bundles import brightness_cxr

QUICK = {"quiet_cxr_s": 0.2, "quiet_ct_s": 0.3, "early_cxr_s": 0.1, "early_ct_s": 0.2}
CT_STUDY = uid(1, 1)
HOUR_S = 3600.0


class MovedClock:
    """The time, and so many seconds."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


def waiting(house: Hospital) -> list[Job]:
    """Return the deliveries that wait to be tried again."""
    with house.app.database.reading() as session:
        return list(session.exec(select(Job).where(
            Job.kind == JobKind.DELIVER.value, Job.state == JobState.WAITING.value, Job.failures > 0)).all())


def test_pacs_that_is_away_for_an_hour_gets_everything_once(tmp_path: Path) -> None:
    port, clock = free_port(), MovedClock()
    pacs = ScriptedPacs(tmp_path / "pacs", port=port)
    with pacs:  # it only lends its name and port to the settings
        settings = settings_for(tmp_path, pacs, infer=TINY | {"models_dir": tiny_models(tmp_path / "models")},
                                assemble=QUICK, work={"first_wait_s": 2.0, "wait_factor": 3.0, "longest_wait_s": 600.0})
    app = App(settings, clock=clock)
    app.start()
    try:
        house = Hospital(app, pacs, tmp_path / "sent")
        house.folder.mkdir()
        house.send(radiograph(patient=11))
        house.ended(uid(11, 1))
        began, late = clock(), False
        while clock() - began < HOUR_S:
            jobs = wait_until(lambda: [j for j in waiting(house) if j.not_before_at > clock()], 60)
            clock.ahead_s += max(0.0, min(j.not_before_at for j in jobs) - clock()) + 0.01
            if clock() - began > HOUR_S / 2 and not late:
                late = True
                house.send(*ct_series())  # half an hour in
                house.ended(CT_STUDY)
        for study in (uid(11, 1), CT_STUDY):
            row = house.study(study)
            assert (row.state, row.delivery) == (StudyState.ASSESSED, DeliveryState.PENDING)
            assert "peer_unreachable" in row.delivery_detail
        (first,) = [j for j in house.jobs(uid(11, 1)) if j.kind == JobKind.DELIVER]
        assert 8 <= first.failures <= 20  # again and again, and ever less often
        assert pacs.received() == []
        with pacs:
            wait_until(lambda: _come_round(house, clock), 60)
            for study in (uid(11, 1), CT_STUDY):
                house.delivered(study)
                assert {j.state for j in house.jobs(study)} <= {JobState.DONE, JobState.CANCELLED}
            stored = Counter(r.sop_instance_uid for r in pacs.received())
            made = {o.sop_instance_uid for study in (uid(11, 1), CT_STUDY) for o in house.objects(study)}
            assert set(stored) == made and set(stored.values()) == {1}
    finally:
        app.stop()


def _come_round(house: Hospital, clock: MovedClock) -> bool:
    """Move the clock to the next try; tell whether none waits any more."""
    jobs = [j for j in waiting(house) if j.not_before_at > clock()]
    if jobs:
        clock.ahead_s += max(0.0, min(j.not_before_at for j in jobs) - clock()) + 0.01
    return not waiting(house)


@pytest.mark.parametrize("jump_s", [-HOUR_S, HOUR_S])
def test_a_clock_that_jumps_holds_nothing_up_and_loses_nothing(tmp_path: Path, jump_s: float) -> None:
    clock = MovedClock()
    clock.ahead_s = 2 * HOUR_S
    models = tiny_models(tmp_path / "models")

    def set_clock(app: App) -> None:
        app.clock = clock

    with hospital(tmp_path / "house", infer=TINY | {"models_dir": models}, change=set_clock,
                  assemble=QUICK | {"quiet_ct_s": 30.0, "start_early": False, "longest_wait_s": 40.0}) as house:
        slices = ct_series()
        house.pacs.refuse(0xA700, times=1)
        house.send(radiograph(patient=11))
        house.send(*slices[:-1])
        clock.ahead_s += jump_s  # in the middle of a study, with a delivery that is to be tried again
        house.send(slices[-1])
        wait_until(lambda: _is_read(house, clock), 30)
        ct, cxr = house.delivered(CT_STUDY), house.delivered(uid(11, 1))
        assert {ct.state, cxr.state} == {StudyState.ASSESSED}
        chosen = [line for line in house.trace(CT_STUDY) if line.startswith("chosen")]
        assert f"{len(slices)} axial slices" in chosen[-1], chosen  # the one that came after the jump, too
        jobs = house.jobs(CT_STUDY) + house.jobs(uid(11, 1))
        assert {j.state for j in jobs} <= {JobState.DONE, JobState.CANCELLED}
        if jump_s < 0:
            assert any("the clock was put back" in line for line in house.trace(CT_STUDY) + house.trace(uid(11, 1)))


def _is_read(house: Hospital, clock: MovedClock) -> bool:
    """Let half a second pass; tell whether both studies are complete and in the PACS."""
    clock.ahead_s += 0.5
    return all(house.study(study).completed_at is not None and house.study(study).delivery == DeliveryState.DELIVERED
               for study in (CT_STUDY, uid(11, 1)))


def test_a_bundle_that_always_fails_is_said_and_stops_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = tiny_models(tmp_path / "models")
    brightness_cxr(models, "broken-cxr", channels=3)  # loads, and fails on each image
    infer = TINY | {"models_dir": models, "cxr_bundles": ["broken-cxr"]}
    with hospital(tmp_path / "house", infer=infer, assemble=QUICK) as house:
        studies = [uid(patient, 1) for patient in (11, 12, 13)]
        for patient in (11, 12, 13):
            house.send(radiograph(patient=patient, StudyDescription="TRAUMA"))
        house.send(*ct_series())
        assert house.delivered(CT_STUDY).state == StudyState.ASSESSED
        for study in studies:
            row = house.ended(study)
            assert (row.state, row.state_reason) == (StudyState.FAILED, "engine_failed")
            wait_until(lambda s=study: house.study(s).delivery == DeliveryState.DELIVERED, 60)
            (report,) = house.in_pacs(study)  # it says that the study was not assessed, and why
            assert report.Modality == "SR" and "not assessed" in report.to_json().lower()
            (look,) = [j for j in house.jobs(study) if j.kind == JobKind.INFER]
            assert (look.state, look.failures, look.reason) == (JobState.PARKED, 3, "engine_failed")
        counted = house.app.metrics.registry.get_sample_value
        assert counted("firstlook_jobs_ended_total", {"kind": "infer", "outcome": "parked"}) == 3
        (file := tmp_path / "firstlook.toml").write_text(
            f'[store]\ndata_dir = "{house.app.data_dir}"\n[infer]\nmodels_dir = "{models}"\ncxr_bundles = ["broken-cxr"]\n'
            'ct_bundles = ["tiny-ct"]\ncxr_gate = ""\ncxr_lungs = ""\n')
        with house.app.database.transaction() as session:
            switch(session, "cxr", ["tiny-cxr"], time.time(), "test")
        assert cli.main(["retry", "--settings", str(file)]) == 0
        for study in studies:
            wait_until(lambda s=study: house.study(s).state == StudyState.ASSESSED, 60)
            house.delivered(study)
            assert {j.state for j in house.jobs(study)} <= {JobState.DONE, JobState.CANCELLED}
