"""The whole line: from a modality, through the models, into the PACS. Every study ends in a stated state."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from highdicom.seg import segread
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid

from service.domain.job import DeliveryState, JobState, StudyState
from service.errors import Reason
from service.pipeline.again import take_up_again
from tests.builders import Sphere, chest, ct_series, radiograph, ribs, uid
from tests.hospital import TINY, Hospital, hospital, tiny_models
from tests.peers import wait_until

CT_STUDY, CXR_STUDY = uid(1, 1), uid(2, 1)
SEG, SR, SC = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.7"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Hospital]:
    models = tiny_models(tmp_path / "models")
    with hospital(tmp_path / "house", infer=TINY | {"models_dir": models}) as one:
        yield one


def processing_summary(report: object) -> str:
    """Return the meaning of the CAD Processing and Findings Summary of an SR."""
    for item in report.ContentSequence:  # type: ignore[attr-defined]
        if "ConceptNameCodeSequence" in item and item.ConceptNameCodeSequence[0].CodeValue == "111017":
            return str(item.ConceptCodeSequence[0].CodeValue)
        if "ContentSequence" in item and (found := processing_summary(item)):
            return found
    return ""


def test_ct_comes_back_as_seg_and_sr_with_the_volume_that_was_built(house: Hospital) -> None:
    lung_mm = 0.22 * 128 * 2.5
    ball = Sphere((100.0, 160.0, 0.30 * 320), 0.45 * lung_mm, -100)
    house.send(*ct_series(spheres=[*chest(40, (5.0, 2.5, 2.5), 128)[:2], ball]))
    study = house.delivered(CT_STUDY)
    assert study.state == StudyState.ASSESSED and study.kind == "ct"
    assert [d.SOPClassUID for d in house.in_pacs(CT_STUDY)] == [SEG, SC, SR]
    seg = segread(house.pacs.received()[0].path)
    infection = next(n for n in seg.segment_numbers if "infection" in seg.get_segment_description(n).segment_label)
    voxels = seg.get_volume(segment_numbers=[infection], combine_segments=False).array.astype(bool).sum()
    ball_ml = 4 / 3 * np.pi * ball.radius_mm**3 / 1000
    assert voxels * 5.0 * 2.5 * 2.5 / 1000 == pytest.approx(ball_ml, rel=0.05)
    told = {m["name"]: m["value"] for m in study.summary["measurements"]}
    assert told["infection volume"] == pytest.approx(voxels * 0.03125, rel=1e-3)
    assert study.flag and study.reading_urgency == "urgent" and study.urgency == "routine"


def test_the_trace_tells_each_step_in_order(house: Hospital) -> None:
    house.send(*ct_series())
    house.delivered(CT_STUDY)
    stages = [line.split(":")[0] for line in house.trace(CT_STUDY)]
    wanted = ["complete", "chosen", "queued", "inferring", "reported", "stored"]
    assert [s for s in stages if s in wanted] == wanted


def test_radiograph_comes_back_as_sr_and_picture(house: Hospital) -> None:
    house.send(radiograph(), calling="DX1")
    study = house.delivered(CXR_STUDY)
    assert sorted(d.SOPClassUID for d in house.in_pacs(CXR_STUDY)) == sorted([SR, SC])
    assert study.summary["findings"]


def test_monochrome1_gives_the_scores_of_the_same_picture_in_monochrome2(house: Hospital) -> None:
    image = ribs(256)
    house.send(radiograph(patient=2, image=image))
    house.send(radiograph(
        patient=3, image=1 - image, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE"))
    one, other = (house.delivered(uid(p, 1)).summary["findings"] for p in (2, 3))
    assert [f["probability"] for f in one] == pytest.approx([f["probability"] for f in other], abs=2e-3)


@pytest.mark.parametrize(("datasets", "study", "reason"), [
    ([radiograph(ViewPosition="LL")], CXR_STUDY, Reason.LATERAL_VIEW),
    ([radiograph(BodyPartExamined="HAND", StudyDescription="Hand", SeriesDescription="PA")], CXR_STUDY, Reason.NOT_CHEST),
    (ct_series(slices=3, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), CT_STUDY, Reason.LOCALIZER_ONLY),
    ([d for k, d in enumerate(ct_series()) if k not in (10, 11, 20)], CT_STUDY, Reason.MISSING_SLICES),
    (ct_series(slices=4), CT_STUDY, Reason.TOO_FEW_SLICES),
    (ct_series(slices=12, spheres=[]), CT_STUDY, Reason.NO_LUNG_FOUND),
    (ct_series(slices=12, RescaleSlope=0), CT_STUDY, Reason.INVALID_RESCALE),
    ([radiograph(PixelData=b"\0" * 100)], CXR_STUDY, Reason.UNREADABLE_PIXELS),
    ([radiograph(image=np.full((256, 256), 0.5))], CXR_STUDY, Reason.BLANK_IMAGE),
    ([radiograph(size=64)], CXR_STUDY, Reason.IMAGE_TOO_SMALL),
    ([radiograph(BitsStored=17, HighBit=16)], CXR_STUDY, Reason.INVALID_PIXEL_DESCRIPTION),
    ([radiograph(), radiograph(instance=2, PatientID="OTHER")], CXR_STUDY, Reason.PATIENT_MISMATCH),
], ids=lambda value: str(value) if isinstance(value, Reason) else "")
def test_study_that_no_model_may_read_says_why_in_worklist_and_pacs(
    house: Hospital, datasets: list[object], study: str, reason: Reason,
) -> None:
    house.send(*datasets)  # type: ignore[arg-type]
    row = house.ended(study)
    assert (row.state, row.state_reason, row.flag) == (StudyState.NOT_ASSESSED, reason.value, "")
    page = httpx.get(f"http://127.0.0.1:{house.app.web_port}/").text
    assert reason.sentence.replace("'", "&#39;") in page.replace("&#x27;", "&#39;")
    if reason is not Reason.PATIENT_MISMATCH:
        house.delivered(study)
        (report,) = house.in_pacs(study)
        assert report.SOPClassUID == SR and processing_summary(report) == "111245"


def test_one_missing_slice_is_assessed_and_the_report_says_so(house: Hospital) -> None:
    house.send(*(d for k, d in enumerate(ct_series()) if k != 15))
    study = house.delivered(CT_STUDY)
    assert any("one slice is missing" in text for text in study.summary["limitations"])


def test_no_bundle_for_a_kind_ends_as_not_assessed(tmp_path: Path) -> None:
    models = tiny_models(tmp_path / "models")
    with hospital(tmp_path / "house", infer=TINY | {"models_dir": models, "ct_bundles": []}) as house:
        house.send(*ct_series(slices=12))
        assert house.ended(CT_STUDY).state_reason == Reason.NO_MODEL.value


def test_second_copy_of_a_study_makes_no_second_result(house: Hospital) -> None:
    house.send(*ct_series())
    first = house.delivered(CT_STUDY)
    house.send(*ct_series(), calling="CT2")
    wait_until(lambda: any("40 duplicates" in line for line in house.trace(CT_STUDY)))
    again = house.study(CT_STUDY)
    assert (again.revision, again.state, again.assessed_at) == (1, StudyState.ASSESSED, first.assessed_at)
    assert len(house.objects(CT_STUDY)) == 3 == len(house.in_pacs(CT_STUDY))


def test_own_results_sent_back_are_ignored_and_said_so(house: Hospital) -> None:
    house.send(*ct_series())
    house.delivered(CT_STUDY)
    house.send_files([r.path for r in house.pacs.received()], calling="PACS")
    wait_until(lambda: any("own result" in line for line in house.trace(CT_STUDY)))
    assert (house.study(CT_STUDY).revision, len(house.jobs(CT_STUDY))) == (1, 2)


def test_study_of_secondary_captures_only_is_not_taken_for_an_input(house: Hospital) -> None:
    picture = radiograph(patient=7, SOPClassUID=SecondaryCaptureImageStorage, Modality="OT")
    house.send(picture)
    house.send(radiograph(patient=8))
    house.delivered(uid(8, 1))
    assert httpx.get(f"http://127.0.0.1:{house.app.web_port}/api/studies/{uid(7, 1)}").status_code == 404


def test_late_slice_revises_the_result_and_the_report_names_its_predecessor(house: Hospital) -> None:
    series = ct_series()
    house.send(*series[:-1])
    house.delivered(CT_STUDY)
    first_report = house.in_pacs(CT_STUDY)[-1].SOPInstanceUID
    house.send(series[-1])
    house.delivered(CT_STUDY, revision=2)
    report = house.in_pacs(CT_STUDY)[-1]
    named = report.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert named.ReferencedSOPInstanceUID == first_report and "revision 2" in report.SeriesDescription
    assert len({o.sop_instance_uid for o in house.objects(CT_STUDY)}) == 6


def test_stat_is_looked_at_before_what_waited_longer(tmp_path: Path) -> None:
    models = tiny_models(tmp_path / "models")
    house_folder = tmp_path / "house"
    with hospital(house_folder, infer=TINY | {"models_dir": models}) as house:
        for patient in range(11, 16):
            house.send(*ct_series(patient=patient, slices=20, RequestedProcedurePriority="LOW"))
        house.send(radiograph(patient=20, RequestedProcedurePriority="STAT"))
        studies = [house.delivered(uid(p, 1)) for p in (*range(11, 16), 20)]
    order = [s.study_instance_uid for s in sorted(studies, key=lambda s: s.started_at or 0)]
    assert studies[-1].urgency == "stat"
    waited = [s for s in studies[:-1] if (s.started_at or 0) > (studies[-1].completed_at or 0)]
    assert all(order.index(s.study_instance_uid) > order.index(uid(20, 1)) for s in waited)


def test_pacs_that_is_away_gets_the_result_when_it_is_back(house: Hospital) -> None:
    house.pacs.refuse(0xA700, times=2)
    house.send(radiograph())
    house.delivered(CXR_STUDY)
    assert any("tried again" in line for line in house.trace(CXR_STUDY))
    assert len(house.in_pacs(CXR_STUDY)) == 2


def test_pacs_that_refuses_for_good_parks_the_delivery_with_its_reason(house: Hospital) -> None:
    house.pacs.refuse(0xC000)
    house.send(radiograph())
    study = wait_until(lambda: (s := house.study(CXR_STUDY)).delivery == DeliveryState.PARKED and s)
    assert Reason.PEER_REFUSED.value in study.delivery_detail
    assert [j.state for j in house.jobs(CXR_STUDY)] == [JobState.DONE, JobState.PARKED]
    page = httpx.get(f"http://127.0.0.1:{house.app.web_port}/").text
    assert "Not delivered" in page and Reason.PEER_REFUSED.sentence.rstrip(".") in page


def test_pacs_that_stays_away_too_long_parks_the_delivery_until_a_person_retries(tmp_path: Path) -> None:
    models = tiny_models(tmp_path / "models")
    with hospital(tmp_path / "house", infer=TINY | {"models_dir": models}, work={"deliver_for_h": 0.0006}) as house:
        house.pacs.refuse(0xA700)
        house.send(radiograph())
        wait_until(lambda: house.study(CXR_STUDY).delivery == DeliveryState.PARKED)
        assert house.jobs(CXR_STUDY)[1].failures > 1
        house.pacs.resume()
        assert house.app.line is not None
        told = take_up_again(house.app.database, house.app.line.queue, house.app.clock())
        assert told == [f"{CXR_STUDY}: 1 jobs queued again, now assessed"]
        house.delivered(CXR_STUDY)
        assert take_up_again(house.app.database, house.app.line.queue, house.app.clock()) == []


def test_model_that_failed_is_run_again_when_a_person_asks_and_its_result_delivered(tmp_path: Path) -> None:
    models = tiny_models(tmp_path / "models")
    with hospital(tmp_path / "house", infer=TINY | {"models_dir": models}) as house:
        assert house.app.line is not None
        house.app.line.engine._engine._loaded.clear()
        weights = models / "tiny-cxr" / "model.onnx"
        content = weights.read_bytes()
        weights.write_bytes(b"")
        house.send(radiograph())
        failed = house.ended(CXR_STUDY)
        assert failed.state == StudyState.FAILED and failed.state_reason
        house.delivered(CXR_STUDY)
        assert processing_summary(house.in_pacs(CXR_STUDY)[0]) == "111245"
        weights.write_bytes(content)
        take_up_again(house.app.database, house.app.line.queue, house.app.clock(), CXR_STUDY)
        wait_until(lambda: house.study(CXR_STUDY).state == StudyState.ASSESSED, 30)
        house.delivered(CXR_STUDY)
        assert len(house.in_pacs(CXR_STUDY)) == 3


def test_health_and_metrics_tell_of_every_stage(house: Hospital) -> None:
    house.send(radiograph())
    house.delivered(CXR_STUDY)
    base = f"http://127.0.0.1:{house.app.web_port}"
    assert httpx.get(f"{base}/health/live").status_code == httpx.get(f"{base}/health/ready").status_code == 200
    text = httpx.get(f"{base}/metrics").text
    for name in ("instances_received_total", "studies_complete_total", "queue_wait_seconds_count", "jobs_ended_total",
                 "time_to_notification_seconds_count", "overtakes_total", "deliveries_total", "engine_info",
                 "disk_free_bytes"):
        assert f"firstlook_{name}" in text
    for stage in ("decode", "infer", "report", "deliver"):
        assert f'stage="{stage}"' in text
    effect = httpx.get(f"{base}/api/effect").json()
    assert [(row["kind"], row["urgency"], row["studies"]) for row in effect["notified"]] == [("cxr", "routine", 1)]
    assert effect["notified"][0]["bundle"] and effect["waited"][0]["studies"] == 1


def test_two_images_with_one_uid_keep_the_first_and_set_the_other_aside(house: Hospital) -> None:
    house.send(radiograph())
    house.delivered(CXR_STUDY)
    house.send(radiograph(image=np.zeros((256, 256))))
    wait_until(lambda: any("other content" in line for line in house.trace(CXR_STUDY)))
    assert house.study(CXR_STUDY).revision == 1


def test_result_uids_follow_from_input_and_model(tmp_path: Path) -> None:
    models = tiny_models(tmp_path / "models")
    made = []
    for run in ("one", "two"):
        with hospital(tmp_path / run, infer=TINY | {"models_dir": models}) as house:
            house.send(radiograph())
            house.delivered(CXR_STUDY)
            made.append([o.sop_instance_uid for o in house.objects(CXR_STUDY)])
    assert made[0] == made[1] and generate_uid() not in made[0]
