"""A person has a result sent once more: by command, from the page, by the API; nobody else's page can."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlmodel import select

from service import cli
from service.domain.job import DeliveryState, JobKind, JobState
from service.outlets import kinds_by_target
from service.pipeline.again import NothingToSend, send_once_more
from service.store.tables import Delivery
from tests.builders import radiograph, uid
from tests.committing import CommittingPacs, target
from tests.hospital import TINY, Hospital, hospital, tiny_models
from tests.peers import HOST, free_port, wait_until

STUDY = uid(2, 1)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Hospital]:
    """A hospital with a result in the PACS and in a folder."""
    (tmp_path / "share").mkdir()
    infer = TINY | {"models_dir": tiny_models(tmp_path / "models")}
    folders = {"folders": [{"name": "share", "folder": str(tmp_path / "share"), "objects": ["sr"]}]}
    with hospital(tmp_path / "house", infer=infer, deliver=folders) as one:
        one.send(radiograph())
        one.delivered(STUDY)
        yield one


def page(house: Hospital) -> str:
    """Return the address of the study page."""
    return f"http://{HOST}:{house.app.web_port}/studies/{STUDY}"


def sent(house: Hospital) -> int:
    """Return how many objects have come to the PACS."""
    return len(house.pacs.received())


def test_the_page_sends_a_result_to_every_target_again(house: Hospital, tmp_path: Path) -> None:
    for file in (tmp_path / "share").iterdir():
        file.unlink()
    assert 'id="resend"' in httpx.get(page(house)).text
    answer = httpx.post(page(house) + "/resend", headers={"Sec-Fetch-Site": "same-origin"})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/studies/{STUDY}")
    wait_until(lambda: sent(house) == 4 and list((tmp_path / "share").iterdir()))
    house.delivered(STUDY)
    assert any("a person asked for it: to pacs, share" in line for line in house.trace(STUDY))
    with house.app.database.reading() as session:
        assert len(session.exec(select(Delivery)).all()) == 3, "one row for each object and target, as before"


def test_the_api_sends_again_and_says_where_to(house: Hospital) -> None:
    base = f"http://{HOST}:{house.app.web_port}/api/studies"
    assert httpx.post(f"{base}/{STUDY}/resend").json()["targets"] == ["pacs", "share"]
    wait_until(lambda: sent(house) == 4)
    absent = httpx.post(f"{base}/1.2.3/resend")
    assert absent.status_code == 404 and "no such study" in absent.json()["error"]


@pytest.mark.parametrize("headers", [
    {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"},
    {"Origin": "null"},
])
def test_a_page_of_another_site_can_have_nothing_sent(house: Hospital, headers: dict[str, str]) -> None:
    for path in (page(house), f"http://{HOST}:{house.app.web_port}/api/studies/{STUDY}"):
        assert httpx.post(path + "/resend", headers=headers).status_code == 403
    assert not [line for line in house.trace(STUDY) if line.startswith("resent")]
    assert httpx.post(page(house) + "/resend", headers={"Origin": f"http://{HOST}:{house.app.web_port}"}).status_code == 303


def test_the_command_sends_to_one_target_and_names_them_when_there_is_no_such(
    house: Hospital, tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "firstlook.toml"
    file.write_text(f'[store]\ndata_dir = "{house.folder}/data"\n'
                    f'[[deliver.targets]]\nname = "pacs"\nae_title = "PACS"\nhost = "{HOST}"\nport = {house.pacs.port}\n')
    assert cli.main(["resend", STUDY, "--target", "pacs", "--settings", str(file)]) == 0
    assert "sent again to pacs" in capsys.readouterr().out
    wait_until(lambda: sent(house) == 4)
    assert cli.main(["resend", "1.2.3", "--settings", str(file)]) == 1
    assert cli.main(["resend", STUDY, "--target", "pcas", "--settings", str(file)]) == 2
    assert "accepted: pacs" in capsys.readouterr().err


def test_a_target_that_takes_nothing_of_a_result_is_left_out(house: Hospital) -> None:
    database, now = house.app.database, house.app.clock()
    with pytest.raises(NothingToSend, match="could be sent"):
        send_once_more(database, now, STUDY, {"share": {"seg"}})
    assert house.study(STUDY).delivery == DeliveryState.DELIVERED


def test_sending_again_takes_up_what_waits_and_what_is_parked(tmp_path: Path) -> None:
    infer = TINY | {"models_dir": tiny_models(tmp_path / "models")}
    with hospital(tmp_path / "house", infer=infer, work={"first_wait_s": 3600, "longest_wait_s": 3600}) as one:
        one.pacs.refuse(0xA700, 1)
        one.send(radiograph())
        wait_until(lambda: [j for j in one.jobs(STUDY) if j.kind == JobKind.DELIVER and j.failures])
        targets = kinds_by_target(one.app.settings)
        one.pacs.refuse(0xA900, 1)
        send_once_more(one.app.database, one.app.clock(), STUDY, targets)
        wait_until(lambda: one.study(STUDY).delivery == DeliveryState.PARKED)
        send_once_more(one.app.database, one.app.clock(), STUDY, targets)
        one.delivered(STUDY)
        states = [j.state for j in one.jobs(STUDY) if j.kind == JobKind.DELIVER]
        assert states == [JobState.CANCELLED, JobState.DONE]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the peer's report may meet a release
def test_what_waits_for_proof_is_asked_for_anew_after_sending_again(tmp_path: Path) -> None:
    infer = TINY | {"models_dir": tiny_models(tmp_path / "models")}
    pacs = CommittingPacs(says="never", port=free_port())
    made = {"targets": [target(pacs, report_wait_s=0)]}
    with hospital(tmp_path / "house", pacs=pacs, infer=infer, deliver=made) as one:  # type: ignore[arg-type]
        one.send(radiograph())
        wait_until(lambda: [j for j in one.jobs(STUDY) if j.kind == JobKind.PROVE and "waits" in j.detail])
        pacs.says = "kept"
        send_once_more(one.app.database, one.app.clock(), STUDY, kinds_by_target(one.app.settings))
        wait_until(lambda: len(pacs.requests) == 2)
        assert next(j.state for j in one.jobs(STUDY) if j.kind == JobKind.PROVE) == JobState.CANCELLED
