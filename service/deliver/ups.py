"""A Unified Procedure Step manager that hands out work (PS3.4 CC, IHE AIW-I): asked, claimed, told, subscribed to."""

from __future__ import annotations

from contextlib import suppress
from enum import StrEnum
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.sop_class import UnifiedProcedureStepPull, UnifiedProcedureStepPush, UnifiedProcedureStepWatch

from service.deliver import steps
from service.deliver.cstore import Called, CStoreTarget
from service.domain.workitem import Offered, Performance
from service.errors import Reason, RefusedByPeer

_PENDING = (0xFF00, 0xFF01)
_SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
_CHANGE_STATE, _SUBSCRIBE = 1, 3  # action types, PS3.4 Table CC.2.1-1 and CC.2.3-1
_MOST = 500
_MAY_NOT_CHANGE, _WRONG_TRANSACTION, _IN_PROGRESS, _GONE, _NOT_IN_PROGRESS = 0xC300, 0xC301, 0xC302, 0xC307, 0xC310
_ALREADY = (0xB304, 0xB306)  # canceled or completed already: what was asked for is so


class Told(StrEnum):
    """What a manager answers. DONE: it is as asked. TAKEN: another performer has it. ENDED: it has its final state, or is
    no longer there. NOT_BEGUN: nobody has claimed it."""

    DONE = "done"
    TAKEN = "taken"
    ENDED = "ended"
    NOT_BEGUN = "not_begun"


_TOLD = {_IN_PROGRESS: Told.TAKEN, _WRONG_TRANSACTION: Told.TAKEN, _MAY_NOT_CHANGE: Told.ENDED, _GONE: Told.ENDED,
         _NOT_IN_PROGRESS: Told.NOT_BEGUN}


class StepManager(Called):
    """One manager. peer: how it is reached; ae_title: ours, that reports go to; station: ours, "VALUE^SCHEME".

    Every method raises PeerUnavailable when the manager is away, RefusedByPeer when it refuses for a reason of its own.
    """

    def __init__(self, peer: CStoreTarget, ae_title: str, station: str) -> None:
        super().__init__(peer)
        self._ae_title, self.station = ae_title, station

    def offered(self) -> list[Offered]:
        """Return the work items that nobody has claimed."""
        found: list[Offered] = []
        with self._peer.association([build_context(UnifiedProcedureStepPull, _SYNTAXES)]) as association:
            try:
                for answer, match in association.send_c_find(steps.query(), UnifiedProcedureStepPull):
                    status = self._peer.status(answer)
                    if status not in _PENDING:
                        self._peer.judge(status, "a query for work items")
                        break
                    one = steps.offered(match) if match is not None else None
                    found += [one] if one else []
                    if len(found) >= _MOST:
                        break
            except RuntimeError as error:
                raise self._peer.unavailable("the association ended before the query was answered") from error
        return found

    def claim(self, uid: str, transaction_uid: str) -> Told:
        """Claim a work item: IN PROGRESS under our transaction."""
        return self._change(uid, transaction_uid, "IN PROGRESS")

    def progress(self, uid: str, transaction_uid: str, text: str) -> Told:
        """Tell how far the work is; where it is not under our transaction, the answer says so."""
        return self._set(uid, steps.progress(transaction_uid, text))

    def complete(self, uid: str, transaction_uid: str, done: Performance) -> Told:
        """Tell what came of it, then end it as COMPLETED."""
        told = self._set(uid, steps.performed(transaction_uid, self.station, done))
        return self._change(uid, transaction_uid, "COMPLETED") if told is Told.DONE else told

    def cancel(self, uid: str, transaction_uid: str, reason: str, done: Performance) -> Told:
        """Tell why it is not done, and what was made all the same, then end it as CANCELED."""
        told = self._set(uid, steps.discontinued(transaction_uid, reason, done.ended_at))
        if told is Told.DONE and done.created:
            told = self._set(uid, steps.performed(transaction_uid, self.station, done))
        return self._change(uid, transaction_uid, "CANCELED") if told is Told.DONE else told

    def subscribe(self, uid: str) -> bool:
        """Ask for reports on a work item, which say that somebody wants it canceled; False when the manager sends none."""
        with suppress(RefusedByPeer):
            return self._act(uid, steps.subscription(self._ae_title), _SUBSCRIBE, UnifiedProcedureStepWatch) is Told.DONE
        return False

    def _change(self, uid: str, transaction_uid: str, state: str) -> Told:
        return self._act(uid, steps.claim(transaction_uid, state), _CHANGE_STATE, UnifiedProcedureStepPull)

    def _act(self, uid: str, action: Dataset, kind: int, over: str) -> Told:
        with self._peer.association([build_context(over, _SYNTAXES)]) as association:
            return self._asked(lambda: association.send_n_action(
                action, kind, UnifiedProcedureStepPush, uid, meta_uid=over))

    def _set(self, uid: str, modifications: Dataset) -> Told:
        over = UnifiedProcedureStepPull
        with self._peer.association([build_context(over, _SYNTAXES)]) as association:
            return self._asked(lambda: association.send_n_set(
                modifications, UnifiedProcedureStepPush, uid, meta_uid=over))

    def _asked(self, ask: Any) -> Told:
        try:
            answer, _ = ask()
        except RuntimeError as error:
            raise self._peer.unavailable("the association ended before the answer") from error
        except ValueError as error:
            raise RefusedByPeer(Reason.PEER_REFUSED, f"{self.name} is no manager of work items") from error
        status = self._peer.status(answer)
        if status in _ALREADY:
            return Told.DONE
        if status in _TOLD:
            return _TOLD[status]
        self._peer.judge(status, "a work item")
        return Told.DONE
