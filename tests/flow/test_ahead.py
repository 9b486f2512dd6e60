"""CT slices are read while they arrive, a first look flags the study, and the full one revises it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from service.domain.job import StudyState
from service.domain.urgency import Urgency
from tests.builders import Sphere, chest, ct_series, uid
from tests.hospital import TINY, Hospital, hospital, tiny_models
from tests.peers import Link, Raw, wait_until

CT_STUDY = uid(1, 1)
LONG = {"quiet_ct_s": 600, "early_ct_s": 600}
QUICK = {"quiet_ct_s": 0.5, "early_ct_s": 0.3}
MM = (2.5, 2.5, 2.5)
SICK = [*chest(80, MM, 128)[:2], Sphere((100, 160, 96), 35, -100)]
THIN: dict[str, Any] = {"slices": 80, "spacing_mm": MM, "spheres": SICK}


def counted(house: Hospital, name: str, **labels: str) -> float:
    return house.app.metrics.registry.get_sample_value(f"firstlook_{name}", labels) or 0.0


def pixels_of_the_seg(house: Hospital) -> bytes:
    return bytes(next(ds for ds in house.in_pacs(CT_STUDY) if ds.Modality == "SEG").PixelData)


def test_slices_are_read_while_their_association_is_open(tmp_path: Path) -> None:
    models = tiny_models(tmp_path / "models")
    with hospital(tmp_path / "house", infer=TINY | {"models_dir": models}, assemble=LONG) as house:
        assert house.app.listener is not None and house.app.line is not None
        line, raws = house.app.line, [Raw.of(ds) for ds in ct_series()]
        with Link(house.app.listener.port, [(raws[0].sop_class_uid, raws[0].transfer_syntax_uid)]) as scanner:
            assert [scanner.store(r) for r in raws[:25]] == [0] * 25
            number = house.study(CT_STUDY).id or 0
            wait_until(lambda: len(line.shelf.slices(number)) == 25)
            assert [scanner.store(r) for r in raws[25:]] == [0] * 15
            wait_until(lambda: len(line.shelf.slices(number)) == 40)
            assert house.study(CT_STUDY).state == StudyState.RECEIVING


def test_what_was_read_ahead_gives_the_result_that_a_look_without_it_gives(tmp_path: Path) -> None:
    models = tiny_models(tmp_path / "models")
    made = []
    for ahead_bytes in (1 << 30, 0):
        folder = tmp_path / f"house-{ahead_bytes}"
        work = {"ahead_bytes": ahead_bytes}
        with hospital(folder, infer=TINY | {"models_dir": models}, assemble=QUICK, work=work) as house:
            house.send(*ct_series())
            study = house.delivered(CT_STUDY)
            used = counted(house, "slices_ahead_total", outcome="used")
            assert used == (40 if ahead_bytes else 0)
            assert counted(house, "inference_batch_images_sum", bundle="tiny-ct") == 40, "no slice is read twice"
            made.append((study.summary["measurements"], [o.sop_instance_uid for o in house.objects(CT_STUDY)],
                         pixels_of_the_seg(house)))
    assert made[0] == made[1]


def test_first_look_flags_a_study_before_it_is_complete_and_the_full_one_confirms_it(tmp_path: Path) -> None:
    models = tiny_models(tmp_path / "models")
    with hospital(tmp_path / "house", infer=TINY | {"models_dir": models}, assemble=LONG | {"quiet_ct_s": 3.0}) as house:
        house.send(*ct_series(**THIN))
        early = wait_until(lambda: (s := house.study(CT_STUDY)).flag and s)
        assert (early.state, early.completed_at, early.reading_urgency) == (StudyState.RECEIVING, None, "urgent")
        assert early.flag.endswith("(first look)") and early.summary["measurements"] == []
        first = early.summary["first_look"]
        assert first["pending"] and first["of"] == 80
        assert first["slices"] in (40, 80), "every second, or all where they were read while they came"
        study = house.delivered(CT_STUDY)
        assert study.summary["first_look"] | {"pending": False, "came": "confirmed"} == study.summary["first_look"]
        assert "first look" not in study.flag and study.summary["measurements"]
        flag = study.summary["flags"][0]
        assert (flag["raised_by"], flag["raised_at"]) == ("first", early.summary["flags"][0]["raised_at"])
        assert (flag["bundle"], flag["version"]) == ("tiny-ct", "1.0.0") and flag["probability"] >= flag["threshold"]
        stages = [line.split(":")[0] for line in house.trace(CT_STUDY)]
        assert stages.index("first_look") < stages.index("complete") < stages.index("reported")
        assert stages.count("first_look") == 1
        assert counted(house, "first_looks_total", outcome="confirmed") == 1
        assert counted(house, "first_look_seconds_count", urgency="routine") == 1


def test_without_work_ahead_the_job_has_a_first_look_before_the_full_one(tmp_path: Path) -> None:
    models = tiny_models(tmp_path / "models")
    with hospital(tmp_path / "house", infer=TINY | {"models_dir": models}, assemble=QUICK, work={"ahead_bytes": 0}) as house:
        house.send(*ct_series(**THIN))
        study = house.delivered(CT_STUDY)
        stages = [line.split(":")[0] for line in house.trace(CT_STUDY)]
        assert stages.index("inferring") < stages.index("first_look") < stages.index("reported")
        assert study.summary["first_look"]["came"] == "confirmed"


def test_where_nothing_may_be_looked_at_early_slices_are_read_ahead_and_no_more(tmp_path: Path) -> None:
    models = tiny_models(tmp_path / "models")
    assemble = {"start_early": False, "quiet_ct_s": 1.5}
    with hospital(tmp_path / "house", infer=TINY | {"models_dir": models}, assemble=assemble) as house:
        house.send(*ct_series(**THIN))
        house.delivered(CT_STUDY)
        stages = [line.split(":")[0] for line in house.trace(CT_STUDY)]
        assert stages.index("complete") < stages.index("told") < stages.index("reported") and "first_look" not in stages
        assert counted(house, "slices_ahead_total", outcome="used") == 80


def test_slices_that_come_late_revise_what_a_first_look_said_of_fewer(tmp_path: Path) -> None:
    models = tiny_models(tmp_path / "models")
    with hospital(tmp_path / "house", infer=TINY | {"models_dir": models}, assemble=LONG) as house:
        slices = ct_series(**THIN)
        house.send(*slices[:60])
        wait_until(lambda: house.study(CT_STUDY).summary.get("first_look", {}).get("of") == 60)
        house.send(*slices[60:])
        wait_until(lambda: house.study(CT_STUDY).summary.get("first_look", {}).get("of") == 80)


@pytest.mark.parametrize("urgency", [Urgency.STAT, Urgency.ROUTINE])
def test_work_ahead_rests_while_a_look_goes_before_it(urgency: Urgency, tmp_path: Path) -> None:
    models = tiny_models(tmp_path / "models")
    with hospital(tmp_path / "house", infer=TINY | {"models_dir": models}, assemble=LONG) as house:
        assert house.app.line is not None
        line, end, begun = house.app.line, threading.Event(), threading.Event()

        def hold() -> None:
            with line.turns.taken(urgency):
                begun.set()
                assert end.wait(60)

        other = threading.Thread(target=hold)
        other.start()
        try:
            assert begun.wait(10)
            house.send(*ct_series())
            turned = house.app.clock()
            wait_until(lambda: counted(house, "loop_last_turn_timestamp_seconds", loop="ahead") > turned + 0.3)
            assert line.shelf.slices(house.study(CT_STUDY).id or 0) == {}
        finally:
            end.set()
            other.join(60)
        number = house.study(CT_STUDY).id or 0
        wait_until(lambda: len(line.shelf.slices(number)) == 40)


def test_series_that_is_refused_costs_nothing_but_what_is_dropped(tmp_path: Path) -> None:
    models = tiny_models(tmp_path / "models")
    with hospital(tmp_path / "house", infer=TINY | {"models_dir": models}, assemble={"quiet_ct_s": 1.5}) as house:
        assert house.app.line is not None
        house.send(*(d for k, d in enumerate(ct_series()) if k % 10 not in (3, 4)))
        study = house.ended(CT_STUDY)
        assert study.state == StudyState.NOT_ASSESSED and study.flag == ""
        wait_until(lambda: counted(house, "slices_ahead_total", outcome="dropped") == 32)
        assert house.app.line.shelf.held_bytes == 0
