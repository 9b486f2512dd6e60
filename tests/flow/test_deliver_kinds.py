"""A result goes to every kind of target at once; each gets what it takes, and one that is away holds up no other."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from pydicom import dcmread
from sqlmodel import select

from service.domain.job import DeliveryState, JobKind, JobState
from service.errors import Reason
from service.store.tables import Delivery, ResultObject
from tests.builders import radiograph, uid
from tests.contracts.receivers import SECRET, TOKEN, Hl7, Hook, Stow
from tests.hospital import TINY, Hospital, hospital, tiny_models
from tests.peers import DEADLINE_S, HOST, free_port, orthanc, wait_until

STUDY = uid(2, 1)


def stored(house: Hospital) -> dict[str, list[str]]:
    """Return the kinds of objects that each target has stored."""
    with house.app.database.reading() as session:
        rows = session.exec(select(Delivery.target, ResultObject.kind).join(ResultObject)).all()
    return {target: sorted(kind for name, kind in rows if name == target) for target, _ in rows}


def test_each_kind_of_target_gets_what_it_takes(tmp_path: Path) -> None:
    (tmp_path / "share").mkdir()
    infer = TINY | {"models_dir": tiny_models(tmp_path / "models")}
    stow, hook, ris = Stow(), Hook(), Hl7()
    with stow.running(), hook.running(), ris.running():
        deliver = {
            "stow": [{"name": "web", "url": f"{stow.url}/dicom-web", "token": TOKEN, "objects": ["sr"]}],
            "folders": [{"name": "share", "folder": str(tmp_path / "share")}],
            "hl7": [{"name": "ris", "host": HOST, "port": ris.port, "fields": {"PV1-2": "U"}}],
            "webhooks": [{"name": "hook", "url": f"{hook.url}/hook", "secret": SECRET}]}
        with hospital(tmp_path / "house", infer=infer, deliver=deliver) as house:
            house.send(radiograph())
            house.delivered(STUDY)
            assert stored(house) == {"pacs": ["sc", "sr"], "web": ["sr"], "share": ["sc", "sr"], "ris": ["sr"],
                                     "hook": ["sr"]}
            (said,) = hook.taken.values()
            assert said["study_instance_uid"] == STUDY and said["urgency"] == house.study(STUDY).reading_urgency
            (message,) = ris.taken.values()
            assert b"\rPV1||U\r" in message and b"\rPID|1||P0002|" in message.replace(b"^^^\\S\\", b"")
            in_folder = {dcmread(p).SOPInstanceUID for p in (tmp_path / "share").iterdir()}
            assert in_folder == {o.sop_instance_uid for o in house.objects(STUDY)}


def test_a_target_that_is_away_holds_up_no_other_and_is_shown(tmp_path: Path) -> None:
    infer = TINY | {"models_dir": tiny_models(tmp_path / "models")}
    away = {"hl7": [{"name": "ris", "host": HOST, "port": free_port(), "timeout_s": 1}]}
    with hospital(tmp_path / "house", infer=infer, deliver=away) as house:
        house.send(radiograph())
        wait_until(lambda: house.pacs.received() and len(stored(house).get("pacs", [])) == 2)
        study = wait_until(lambda: (s := house.study(STUDY)).delivery_detail and s)
        assert study.delivery == DeliveryState.PENDING and "ris" in study.delivery_detail
        (job,) = [j for j in house.jobs(STUDY) if j.target == "ris"]
        assert (job.kind, job.state) in [(JobKind.DELIVER, JobState.WAITING), (JobKind.DELIVER, JobState.LEASED)]


def everywhere(tmp_path: Path, stow: Stow, hook: Hook, ris: Hl7) -> dict[str, list[dict[str, object]]]:
    """Return targets of each kind, all of which answer within seconds."""
    return {
        "stow": [{"name": "web", "url": f"{stow.url}/dicom-web", "token": TOKEN, "timeout_s": 2}],
        "hl7": [{"name": "ris", "host": HOST, "port": ris.port, "timeout_s": 2}],
        "webhooks": [{"name": "hook", "url": f"{hook.url}/hook", "secret": SECRET, "timeout_s": 2}]}


def test_each_kind_is_tried_again_parked_shown_and_sent_once_more(tmp_path: Path) -> None:
    infer = TINY | {"models_dir": tiny_models(tmp_path / "models")}
    stow, hook, ris = Stow(), Hook(), Hl7()
    with ExitStack() as stack:
        for one in (stow, hook, ris):
            stack.enter_context(one.running())
        deliver = everywhere(tmp_path, stow, hook, ris)
        house = stack.enter_context(hospital(tmp_path / "house", infer=infer, deliver=deliver))
        for one in (stow, hook, ris):
            one.does = "busy"
        house.pacs.refuse(0xA700, times=2)
        house.send(radiograph())
        wait_until(lambda: {j.target for j in house.jobs(STUDY) if j.failures} == {"pacs", "web", "hook", "ris"}, 60)
        for one in (stow, hook, ris):
            one.does = "well"
        house.delivered(STUDY)
        assert (len(stow.taken), len(hook.taken), len(ris.taken)) == (2, 1, 1), "what failed was tried again"
        for one in (stow, hook, ris):
            one.does = "refuse"
        house.pacs.refuse(0xA900)
        page = f"http://{HOST}:{house.app.web_port}/studies/{STUDY}"
        httpx.post(f"{page}/resend", headers={"Sec-Fetch-Site": "same-origin"})

        def parked() -> set[str]:
            refused = [j for j in house.jobs(STUDY) if j.reason == Reason.PEER_REFUSED]
            return {j.target for j in refused if j.state == JobState.PARKED}

        wait_until(lambda: parked() == {"pacs", "web", "hook", "ris"}, 60)
        assert house.study(STUDY).delivery == DeliveryState.PARKED
        told = httpx.get(f"http://{HOST}:{house.app.web_port}/api/studies/{STUDY}").json()
        assert Reason.PEER_REFUSED.value in str(told)
        for one in (stow, hook, ris):
            one.does, one.taken = "well", {}
        house.pacs.resume()
        httpx.post(f"{page}/resend", headers={"Sec-Fetch-Site": "same-origin"})
        house.delivered(STUDY)
        assert (len(stow.taken), len(hook.taken), len(ris.taken)) == (2, 1, 1)


@pytest.mark.peer
def test_orthanc_takes_results_by_stow_and_takes_them_again(tmp_path: Path) -> None:
    infer = TINY | {"models_dir": tiny_models(tmp_path / "models")}
    with orthanc(tmp_path / "orthanc", dicomweb=True) as server:
        deliver = {"targets": [], "stow": [{"name": "orthanc", "url": f"{server.url}/dicom-web"}]}
        with hospital(tmp_path / "house", infer=infer, deliver=deliver) as house:
            house.send(radiograph())
            house.delivered(STUDY)
            held = {server.get(f"/instances/{i}/tags?simplify")["SOPInstanceUID"] for i in server.get("/instances")}
            assert held == {o.sop_instance_uid for o in house.objects(STUDY)}
            outlet = house.app.line.targets["orthanc"]  # type: ignore[union-attr]
            outlet.target.echo()
            found = httpx.get(f"{server.url}/dicom-web/studies", timeout=DEADLINE_S).json()
            assert found[0]["0020000D"]["Value"] == [STUDY]
