"""Proof that a peer keeps what it was sent: how a target proves it, and what its answer means."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

FINAL = frozenset({0x0119, 0x0122})  # class and instance conflict, class not supported (PS3.3 C.14.1.1): never will be
_MOST_OBJECTS = 10_000


class Proof(StrEnum):
    """How a target proves that it keeps an object.

    NONE: its answer to the sending is enough. CFIND: a query lists the object. COMMIT: storage commitment (PS3.4 J).
    """

    NONE = "none"
    CFIND = "cfind"
    COMMIT = "commit"


class UnreadableReport(ValueError):
    """A report of storage commitment that lacks what the standard requires, or is out of all proportion."""


@dataclass(frozen=True)
class Answer:
    """What a report of storage commitment says. failed: the Failure Reason (0008,1197) by SOP Instance UID."""

    transaction_uid: str
    kept: frozenset[str]
    failed: Mapping[str, int]


@dataclass(frozen=True)
class Verdict:
    """An answer held against what was asked. unnamed: objects that the answer is silent about."""

    kept: frozenset[str]
    failed: Mapping[str, int]
    unnamed: frozenset[str]

    @property
    def is_final(self) -> bool:
        """Whether sending a failed object again is pointless."""
        return any(reason in FINAL for reason in self.failed.values())


def read_report(information: Any) -> Answer:
    """Read the Event Information of an N-EVENT-REPORT (PS3.4 J.3.3), of either event type.

    information: a data set. An object that is in both lists counts as failed. Raises: UnreadableReport.
    """
    transaction_uid = str(getattr(information, "TransactionUID", "") or "")
    kept, failed = (getattr(information, name, None) or () for name in ("ReferencedSOPSequence", "FailedSOPSequence"))
    if not transaction_uid or len(transaction_uid) > 64:
        raise UnreadableReport("Transaction UID is absent or too long")
    if len(kept) + len(failed) > _MOST_OBJECTS:
        raise UnreadableReport(f"more than {_MOST_OBJECTS} objects")
    try:
        reasons = {str(item.ReferencedSOPInstanceUID): int(item.FailureReason) for item in failed}
        named = frozenset(str(item.ReferencedSOPInstanceUID) for item in kept)
    except (AttributeError, TypeError, ValueError) as error:
        raise UnreadableReport("an item lacks Referenced SOP Instance UID or Failure Reason") from error
    return Answer(transaction_uid, named - reasons.keys(), reasons)


def judge(asked: Collection[str], kept: Collection[str], failed: Mapping[str, int]) -> Verdict:
    """Compare what was asked (SOP Instance UIDs) with what was answered; objects never asked for are left out."""
    wanted = frozenset(asked)
    told = {uid: reason for uid, reason in failed.items() if uid in wanted}
    proven = (wanted & frozenset(kept)) - told.keys()
    return Verdict(proven, told, wanted - proven - told.keys())
