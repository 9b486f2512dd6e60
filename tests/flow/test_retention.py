"""Images go some time after their result is in the PACS, and nothing else goes; what is gone can be sent again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.domain.job import DeliveryState, StudyState
from service.errors import Reason
from service.explain import explain
from service.pipeline.again import take_up_again
from service.pipeline.retain import delete_images
from service.receive.recovery import recover
from service.store.intake import Intake
from service.store.tables import Instance
from tests.builders import ct_series, radiograph, uid
from tests.hospital import TINY, Hospital, hospital, tiny_models
from tests.peers import HOST, wait_until

NOW, LONG = 0.0, 3600.0


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Hospital]:
    with hospital(tmp_path, infer=TINY | {"models_dir": tiny_models(tmp_path / "models")}) as made:
        yield made


def paths(running: Hospital, study: str) -> list[str]:
    return [row.path for row in running.rows(Instance, study)]


def files(running: Hospital) -> set[str]:
    return set(running.app.spool.files())


def deleted(running: Hospital, keep_s: float = NOW) -> int:
    assert running.app.line is not None
    return delete_images(running.app.line, keep_s)


def test_images_go_after_delivery_and_the_time_and_results_stay(running: Hospital) -> None:
    running.send(*ct_series(slices=12))
    running.delivered(uid(1, 1))
    assert deleted(running, LONG) == 0 and len(files(running)) == 12
    wait_until(lambda: deleted(running) == 1)
    assert files(running) == set() and paths(running, uid(1, 1)) == [""] * 12
    study = running.study(uid(1, 1))
    assert (study.state, study.delivery) == (StudyState.ASSESSED, DeliveryState.DELIVERED) and study.summary["findings"]
    assert all((running.app.results / made.path).exists() for made in running.objects(uid(1, 1)))
    assert running.app.metrics.registry.get_sample_value("firstlook_images_deleted_total") == 12
    base = f"http://{HOST}:{running.app.web_port}"
    page = httpx.get(f"{base}/studies/{uid(1, 1)}").text
    told = "\n".join(explain(running.app.database, uid(1, 1)) or [])
    [again] = take_up_again(running.app.database, running.app.line.queue, 0.0, uid(1, 1))  # type: ignore[union-attr]
    for said in (page, told, again):
        assert Reason.IMAGES_DELETED.sentence in said
    pictures = re.findall(r'src="([^"]+\.png)"', page)
    assert all(httpx.get(f"{base}{picture}").is_success for picture in pictures), "no picture that can no longer be made"
    assert deleted(running) == 0


@pytest.mark.parametrize("kind", ["undelivered", "failed", "two patients", "receiving"])
def test_what_is_not_done_with_is_kept(running: Hospital, kind: str) -> None:
    study = uid(1, 1)
    if kind == "undelivered":
        running.pacs.refuse(0xA700)
        running.send(radiograph(patient=1))
        running.ended(study)
    elif kind == "failed":
        running.send(*ct_series(slices=12, size=64))  # the tiny bundle takes 128 x 128 only
        wait_until(lambda: running.study(study).state == StudyState.FAILED, 60)
        running.delivered(study)
    elif kind == "two patients":
        running.send(radiograph(patient=1), radiograph(patient=1, instance=2, PatientID="OTHER"))
        assert running.ended(study).state_reason == Reason.PATIENT_MISMATCH
    else:
        running.send(radiograph(patient=1))
        running.delivered(study)
        with running.app.database.transaction() as session:
            row = session.merge(running.study(study))
            row.completed_at = None
            row.state = StudyState.RECEIVING.value
            row.last_received_at += LONG
    held = files(running)
    assert held and deleted(running) == 0 and files(running) == held
    running.pacs.resume()


def test_a_late_image_of_a_study_without_images_is_refused_and_says_what_to_do(running: Hospital) -> None:
    series = ct_series(slices=13)
    running.send(*series[:12])
    running.delivered(uid(1, 1))
    wait_until(lambda: deleted(running) == 1)
    running.send(series[12])
    late = running.delivered(uid(1, 1), revision=2)
    assert (late.state, late.state_reason) == (StudyState.NOT_ASSESSED, Reason.IMAGES_DELETED)
    wait_until(lambda: deleted(running) == 1)
    assert files(running) == set(), "the late one goes in its turn"
    running.send(*series)
    assert running.study(uid(1, 1)).state_reason == Reason.IMAGES_DELETED, "the result stands until something new comes"
    assert len(files(running)) == 13 and "" not in paths(running, uid(1, 1))


def test_images_that_come_again_can_be_looked_at_with_what_is_new(running: Hospital) -> None:
    series = ct_series(slices=13)
    running.send(*series[:12])
    running.delivered(uid(1, 1))
    wait_until(lambda: deleted(running) == 1)
    running.send(*series)
    again = running.delivered(uid(1, 1), revision=2)
    assert again.state == StudyState.ASSESSED and len(files(running)) == 13


def test_killed_between_rows_and_files_the_files_go_later(running: Hospital) -> None:
    running.send(radiograph(patient=1))
    running.delivered(uid(1, 1))
    [path] = files(running)
    content = running.app.spool.locate(path).read_bytes()
    wait_until(lambda: deleted(running) == 1)
    running.app.spool.locate(path).write_bytes(content)
    found = recover(running.app.spool, Intake(running.app.database, running.app.clock))
    assert (found.missing, found.quarantined) == (0, 0)
    wait_until(lambda: deleted(running) == 1)
    assert files(running) == set()
