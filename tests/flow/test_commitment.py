"""A result counts as delivered once its target has proven that it keeps it; and what becomes of it when it has not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlmodel import select

from service.domain.job import DeliveryState, JobKind, JobState
from service.pipeline.again import take_up_again
from service.store.tables import Commitment, Delivery, ResultObject
from tests.builders import radiograph, uid
from tests.committing import CommittingPacs, target
from tests.hospital import TINY, Hospital, hospital, tiny_models
from tests.peers import HOST, free_port, orthanc, wait_until

STUDY = uid(2, 1)


@contextmanager
def house(folder: Path, pacs: Any, port: int = 0, **changes: Any) -> Iterator[Hospital]:
    """Run a hospital whose PACS is to prove what it keeps; changes: of the target's settings."""
    infer = TINY | {"models_dir": tiny_models(folder / "models")}
    pacs.port = free_port()
    made = {"targets": [target(pacs, **changes)]}
    with hospital(folder / "house", pacs=pacs, infer=infer, receive={"port": port}, deliver=made) as one:
        yield one


def deliveries(house: Hospital) -> list[tuple[str, str, bool]]:
    """Return (kind, proof, whether it is proven) of everything that is stored."""
    with house.app.database.reading() as session:
        rows = session.exec(select(ResultObject.kind, Delivery.proof, Delivery.proven_at).join(Delivery)).all()
    return sorted((kind, proof, at is not None) for kind, proof, at in rows)


def commitments(house: Hospital) -> list[Commitment]:
    """Return the transactions in the order they were made."""
    with house.app.database.reading() as session:
        return list(session.exec(select(Commitment).order_by(Commitment.id)).all())  # type: ignore[arg-type]


def reaches(house: Hospital, state: DeliveryState) -> Any:
    """Wait until the study's delivery is in a state."""
    return wait_until(lambda: (s := house.study(STUDY)).delivery == state and s, 60)


PROVEN = [("sc", "commit", True), ("sr", "commit", True)]


def test_a_report_on_the_same_association_proves_the_result(tmp_path: Path) -> None:
    pacs = CommittingPacs()
    with house(tmp_path, pacs, report_wait_s=20) as one:
        one.send(radiograph())
        study = one.delivered(STUDY)
        assert deliveries(one) == PROVEN
        assert pacs.report_statuses == [0x0000]
        assert sorted(pacs.requests[0][1]) == sorted(pacs.held)
        stages = [line.split(":")[0] for line in one.trace(STUDY)]
        assert [s for s in stages if s in ("stored", "commitment", "proven")] == ["stored", "commitment", "proven"]
        metric = one.app.metrics.registry.get_sample_value
        assert metric("firstlook_commitments_total", {"target": "pacs", "outcome": "commit"}) == 2
        page = httpx.get(f"http://{HOST}:{one.app.web_port}/studies/{STUDY}").text
        assert "proven by storage commitment" in page and study.delivered_at


@pytest.mark.parametrize("before_answer", [False, True], ids=["after the answer", "before the answer"])
def test_a_report_on_another_association_proves_the_result(tmp_path: Path, before_answer: bool) -> None:
    port = free_port()
    pacs = CommittingPacs(back=(HOST, port), before_answer=before_answer)
    with house(tmp_path, pacs, port) as one:
        one.send(radiograph())
        one.delivered(STUDY)
        assert deliveries(one) == PROVEN
        assert pacs.report_statuses == [0x0000]


def test_a_report_long_after_the_request_proves_the_result_and_until_then_it_is_not_delivered(tmp_path: Path) -> None:
    port = free_port()
    pacs = CommittingPacs(back=(HOST, port), says="never")
    with house(tmp_path, pacs, port, report_wait_s=0) as one:
        one.send(radiograph())
        reaches(one, DeliveryState.SENT)
        wait_until(lambda: [j for j in one.jobs(STUDY) if j.kind == JobKind.PROVE and "waits" in j.detail])
        base = f"http://{HOST}:{one.app.web_port}"
        assert "Sent, not yet proven" in httpx.get(base + "/").text
        assert "not yet proven" in httpx.get(f"{base}/studies/{STUDY}").text
        assert one.study(STUDY).delivered_at is None
        assert pacs.report(*pacs.requests[0], []) == 0x0000
        one.delivered(STUDY)
        assert pacs.report(*pacs.requests[0], []) == 0x0000, "a second report of the same transaction does no harm"
        assert pacs.log.count("request") == 1 and deliveries(one) == PROVEN


@pytest.mark.parametrize("says", ["wrong", "never"])
def test_without_a_report_of_ours_a_query_decides_after_the_time_limit(tmp_path: Path, says: str) -> None:
    pacs = CommittingPacs(says=says)
    with house(tmp_path, pacs, prove_within_s=1.0) as one:
        one.send(radiograph())
        one.delivered(STUDY)
        assert deliveries(one) == [("sc", "cfind", True), ("sr", "cfind", True)]
        assert pacs.log.count("store DX") + pacs.log.count("store SR") + pacs.log.count("store OT") == 2
        (row,) = commitments(one)
        assert row.answered_at is None and row.given_up_at is not None


def test_a_report_that_cannot_be_read_is_told_to_the_peer_and_a_query_decides(tmp_path: Path) -> None:
    pacs = CommittingPacs(says="bare")
    with house(tmp_path, pacs, prove_within_s=1.0, report_wait_s=20) as one:
        one.send(radiograph())
        one.delivered(STUDY)
        assert pacs.report_statuses == [0x0115]


def test_an_object_that_a_report_is_silent_about_is_not_taken_for_kept(tmp_path: Path) -> None:
    pacs = CommittingPacs(says="silent", lists=False)
    with house(tmp_path, pacs, report_wait_s=20) as one:
        one.send(radiograph())
        wait_until(lambda: pacs.log.count("request") == 2, 60)
        wait_until(lambda: ("sc", "commit", True) in deliveries(one) or ("sr", "commit", True) in deliveries(one))
        assert [line for line in pacs.log if line.startswith("find")] == ["find IMAGE"], "only the unnamed one is asked for"
        assert one.study(STUDY).delivery != DeliveryState.DELIVERED


def test_an_object_that_the_peer_has_lost_is_sent_again_alone(tmp_path: Path) -> None:
    pacs = CommittingPacs(loses=1)
    with house(tmp_path, pacs, report_wait_s=20) as one:
        one.send(radiograph())
        one.delivered(STUDY)
        stores = [line for line in pacs.log if line.startswith("store")]
        assert len(stores) == 3 and len(set(stores)) == 2
        assert [len(asked) for _, asked in pacs.requests] == [2, 1]
        assert deliveries(one) == PROVEN
        assert any("0x0112 no such object; sent again in" in line for line in one.trace(STUDY))


@pytest.mark.parametrize("says", ["failed", "both"])
def test_a_peer_that_never_keeps_the_result_ends_with_a_person(tmp_path: Path, says: str) -> None:
    pacs = CommittingPacs(says=says)
    with house(tmp_path, pacs, report_wait_s=20) as one:
        one.send(radiograph())
        study = reaches(one, DeliveryState.PARKED)
        assert len(pacs.requests) == 3, "as often as work.tries says"
        assert "not_committed" in study.delivery_detail and deliveries(one) == []
        pacs.says = "kept"
        take_up_again(one.app.database, one.app.line.queue, one.app.clock())  # type: ignore[union-attr]
        one.delivered(STUDY)
        assert deliveries(one) == PROVEN


def test_a_failure_that_will_never_change_is_parked_at_once(tmp_path: Path) -> None:
    pacs = CommittingPacs(says="failed", reason=0x0122)
    with house(tmp_path, pacs, report_wait_s=20) as one:
        one.send(radiograph())
        assert "0x0122 class not supported" in reaches(one, DeliveryState.PARKED).delivery_detail
        assert len(pacs.requests) == 1


@pytest.mark.parametrize("pacs", [CommittingPacs(takes_requests=False), CommittingPacs(status=0x0112)],
                         ids=["no such context", "a failure status"])
def test_a_peer_without_storage_commitment_is_asked_by_a_query(tmp_path: Path, pacs: CommittingPacs) -> None:
    with house(tmp_path, pacs) as one:
        one.send(radiograph())
        one.delivered(STUDY)
        assert {proof for _, proof, _ in deliveries(one)} == {"cfind"}
        assert any("no storage commitment" in line for line in one.trace(STUDY))


def test_a_peer_that_can_prove_nothing_ends_with_a_person(tmp_path: Path) -> None:
    with house(tmp_path, CommittingPacs(takes_requests=False, takes_queries=False)) as one:
        one.send(radiograph())
        study = reaches(one, DeliveryState.UNPROVEN)
        assert "does not accept" in study.delivery_detail
        (job,) = [j for j in one.jobs(STUDY) if j.kind == JobKind.PROVE]
        assert job.state == JobState.PARKED
        assert "Sent, not proven" in httpx.get(f"http://{HOST}:{one.app.web_port}/").text


def test_a_request_that_does_not_get_through_is_made_again_with_a_transaction_of_its_own(tmp_path: Path) -> None:
    pacs = CommittingPacs(status=0x0213)
    with house(tmp_path, pacs, report_wait_s=20) as one:
        one.send(radiograph())
        wait_until(lambda: len(pacs.requests) >= 2)
        pacs.status = 0x0000
        one.delivered(STUDY)
        uids = [transaction for transaction, _ in pacs.requests]
        assert len(set(uids)) == len(uids) and deliveries(one) == PROVEN


def test_proof_by_query_alone_asks_for_no_commitment_and_waits_until_the_peer_lists_all(tmp_path: Path) -> None:
    pacs = CommittingPacs(lists=False)
    with house(tmp_path, pacs, proof="cfind") as one:
        one.send(radiograph())
        wait_until(lambda: pacs.log.count("find IMAGE") >= 4)
        assert one.study(STUDY).delivery == DeliveryState.SENT
        pacs.lists = True
        one.delivered(STUDY)
        assert "request" not in pacs.log and {p for _, p, _ in deliveries(one)} == {"cfind"}


def test_a_target_gets_only_the_objects_its_settings_name(tmp_path: Path) -> None:
    pacs = CommittingPacs()
    with house(tmp_path, pacs, objects=["sr"], report_wait_s=20) as one:
        one.send(radiograph())
        one.delivered(STUDY)
        assert deliveries(one) == [("sr", "commit", True)] and len(one.objects(STUDY)) == 2


@pytest.mark.peer
def test_orthanc_commits_to_the_result(tmp_path: Path) -> None:
    port = free_port()
    infer = TINY | {"models_dir": tiny_models(tmp_path / "models")}
    with orthanc(tmp_path / "orthanc", {"FIRSTLOOK": (HOST, port)}) as server:
        made = {"targets": [target(server)]}
        with hospital(tmp_path / "house", infer=infer, receive={"port": port}, deliver=made) as one:
            one.send(radiograph())
            one.delivered(STUDY)
            assert deliveries(one) == PROVEN
            (row,) = commitments(one)
            assert len(row.kept) == 2 and not row.failed


@pytest.mark.peer
def test_orthanc_lists_the_result(tmp_path: Path) -> None:
    port = free_port()
    infer = TINY | {"models_dir": tiny_models(tmp_path / "models")}
    with orthanc(tmp_path / "orthanc", {"FIRSTLOOK": (HOST, port)}) as server:
        made = {"targets": [target(server, proof="cfind")]}
        with hospital(tmp_path / "house", infer=infer, receive={"port": port}, deliver=made) as one:
            one.send(radiograph())
            one.delivered(STUDY)
            assert {proof for _, proof, _ in deliveries(one)} == {"cfind"}
