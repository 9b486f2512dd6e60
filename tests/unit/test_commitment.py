"""Reports of storage commitment: what they say, what they leave out, and what no report may do to the listener."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, build_role
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance, Verification

from service.domain.commitment import Answer, UnreadableReport, judge, read_report
from service.domain.job import JobKind, RetryPolicy
from service.errors import Reason, Unavailable
from service.receive.listener import Listener
from service.receive.policy import Policy
from service.receive.spool import Spool
from service.store.commitments import record_answer
from service.store.database import Database
from service.store.intake import Intake
from service.store.tables import Commitment, Study
from tests.peers import HOST, Metrics

UIDS = st.sets(st.sampled_from([f"1.2.{n}" for n in range(6)]))


def report(transaction: str | None = "1.2.3", kept: tuple[str, ...] = (), failed: dict[str, int] | None = None) -> Dataset:
    """Build the Event Information of a report."""
    made = Dataset()
    if transaction is not None:
        made.TransactionUID = transaction
    made.ReferencedSOPSequence = [_item(uid) for uid in kept]
    made.FailedSOPSequence = [_item(uid, FailureReason=reason) for uid, reason in (failed or {}).items()]
    return made


def _item(uid: str, **more: Any) -> Dataset:
    made = Dataset()
    made.ReferencedSOPInstanceUID = uid
    for name, value in more.items():
        setattr(made, name, value)
    return made


def test_a_report_names_what_is_kept_and_why_the_rest_is_not() -> None:
    answer = read_report(report(kept=("1", "2"), failed={"3": 0x0112}))
    assert (answer.transaction_uid, answer.kept, answer.failed) == ("1.2.3", {"1", "2"}, {"3": 0x0112})


def test_an_object_in_both_lists_is_not_kept() -> None:
    assert read_report(report(kept=("1",), failed={"1": 0x0112})).kept == frozenset()


@pytest.mark.parametrize("information", [
    Dataset(), report(None), report(""), SimpleNamespace(TransactionUID="1" * 65), None,
    report(kept=tuple(map(str, range(10_001)))),
], ids=["empty", "no transaction", "empty transaction", "long transaction", "nothing", "too many"])
def test_a_report_without_its_essentials_is_unreadable(information: Any) -> None:
    with pytest.raises(UnreadableReport):
        read_report(information)


def test_a_failed_item_without_a_reason_is_unreadable() -> None:
    broken = report()
    broken.FailedSOPSequence = [_item("1")]
    with pytest.raises(UnreadableReport, match="Failure Reason"):
        read_report(broken)


@given(asked=UIDS, kept=UIDS, failed=UIDS)
def test_what_was_asked_falls_into_kept_failed_and_unnamed_and_nothing_else_is_said(
    asked: set[str], kept: set[str], failed: set[str],
) -> None:
    verdict = judge(asked, kept, dict.fromkeys(failed, 0x0112))
    assert verdict.kept | set(verdict.failed) | verdict.unnamed == asked
    assert not verdict.kept & failed and not verdict.unnamed & (kept | failed)
    assert len(verdict.kept) + len(verdict.failed) + len(verdict.unnamed) == len(asked)


def test_sending_again_backs_off_and_ends_after_the_tries() -> None:
    policy = RetryPolicy(tries=4, first_wait_s=2, factor=3, longest_wait_s=10, deliver_for_s=100)
    assert [policy.send_again_s(n) for n in (1, 2, 3, 4)] == [2, 6, 10, None]
    assert policy.wait_s(JobKind.PROVE, 50, 99) == 10 and policy.wait_s(JobKind.PROVE, 1, 100) is None


@pytest.fixture
def database(tmp_path: Path) -> Any:
    made = Database(f"sqlite:///{tmp_path / 'f.db'}")
    made.migrate()
    with made.transaction() as session:
        session.add(Study(study_instance_uid="1.2", state="assessed", first_received_at=1.0, last_received_at=1.0))
        session.flush()
        session.add(Commitment(transaction_uid="1.2.3", study_id=1, revision=1, target="pacs",
                               objects={"1": "9", "2": "9"}, asked_at=1.0, due_at=9.0))
    yield made
    made.close()


def test_only_the_first_report_of_a_known_transaction_is_written_down_and_only_of_what_was_asked(database: Any) -> None:
    assert not record_answer(database, 2.0, Answer("9.9", frozenset({"1"}), {}))
    assert record_answer(database, 2.0, Answer("1.2.3", frozenset({"1", "77"}), {"2": 0x0112, "88": 1}))
    assert not record_answer(database, 3.0, Answer("1.2.3", frozenset({"1", "2"}), {}))
    with database.reading() as session:
        row = session.get(Commitment, 1)
    assert (row.answered_at, row.kept, row.failed) == (2.0, ["1"], {"2": 0x0112})


@pytest.fixture
def station(tmp_path: Path, database: Any) -> Any:
    """A listener that hands reports to a list; a transaction 1.9 makes the database fail."""
    taken: list[Answer] = []

    def record(answer: Answer) -> bool:
        if answer.transaction_uid == "1.9":
            raise Unavailable(Reason.INTERNAL_ERROR, "the database: gone")
        taken.append(answer)
        return answer.transaction_uid == "1.2.3"

    policy = Policy(any_calling_ae=True)
    listener = Listener(policy, Spool(tmp_path / "spool", 0), Intake(database, lambda: 1.0), Metrics(),
                        lambda uid: False, record)
    listener.start()
    yield listener, taken
    assert listener.stop()


@pytest.mark.parametrize("role", [True, False], ids=["with a role", "without a role"])
@pytest.mark.parametrize(("information", "event_type", "status"), [
    (report(kept=("1",)), 1, 0x0000), (report(failed={"1": 0x0112}), 2, 0x0000), (report(str(generate_uid())), 1, 0x0000),
    (report(None, kept=("1",)), 1, 0x0115), (report(), 3, 0x0113), (report("1.9"), 1, 0x0110),
], ids=["kept", "failed", "unknown transaction", "no transaction", "unknown event", "database away"])
def test_the_listener_answers_each_report_and_takes_the_next(
    station: Any, information: Dataset, event_type: int, status: int, role: bool,
) -> None:
    listener, taken = station
    entity = AE("PACS")
    entity.add_requested_context(StorageCommitmentPushModel)
    entity.add_requested_context(Verification)
    roles = [build_role(StorageCommitmentPushModel, scp_role=True)] if role else []
    association = entity.associate(HOST, listener.port, ae_title="FIRSTLOOK", ext_neg=roles)
    answer, _ = association.send_n_event_report(
        information, event_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
    assert answer.Status == status
    assert len(taken) == (status == 0x0000)
    assert association.send_c_echo().Status == 0x0000, "the association goes on"
    association.release()
