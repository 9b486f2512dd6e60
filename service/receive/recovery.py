"""Bring rows and files together at start: nothing that was acknowledged is lost, nothing half written stays."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from service import logs
from service.errors import BadInstance
from service.receive.header import open_file, read_encoded_header, read_file_meta
from service.receive.spool import Spool
from service.store.intake import Arrival, Intake, Outcome

_log = logs.get("receive.recovery")


@dataclass(frozen=True)
class Recovered:
    """What was found at start.

    leftovers: parts removed; rows: made from files; quarantined: files set aside; missing: rows whose file is missing;
    restored: images that were in ready files.
    """

    leftovers: int
    rows: int
    quarantined: int
    missing: int
    restored: int = 0


def recover(spool: Spool, intake: Intake) -> Recovered:
    """Remove unfinished files, give images in ready files their places, every file without a row its row, and report rows
    without a file.

    Raises: Unavailable when the database cannot be reached; OSError when the spool cannot be read.
    """
    leftovers = spool.remove_leftovers()
    restored = spool.restore()
    known = intake.known_paths()
    rows = quarantined = 0
    found = set(spool.files())
    for path in sorted(found - known, key=lambda path: (spool.locate(path).stat().st_mtime_ns, path)):
        outcome = _adopt(spool, intake, path)
        rows += outcome is Outcome.STORED
        quarantined += outcome in (None, Outcome.CHANGED_DUPLICATE)
    missing = sorted(known - found) if spool.is_here else []  # else most are elsewhere
    for path in missing:
        _log.error("the file of a received image is missing", extra={"path": path})
    summary = Recovered(leftovers, rows, quarantined, len(missing), restored)
    _log.info("spool checked", extra={"files": len(found), "leftovers": leftovers, "restored": restored, "rows_made": rows,
                                      "quarantined": quarantined, "missing": len(missing)})
    return summary


def _adopt(spool: Spool, intake: Intake, path: str) -> Outcome | None:
    """Make the row of one file, with the sender and the time it tells; None when it is unreadable: then it is set aside."""
    try:
        spool.keep(path)
        outcome = _record(spool.locate(path), intake, path)
    except BadInstance as error:
        _log.error("a file of the spool is unreadable", extra={"path": path, "reason": error.reason})
        spool.quarantine(path)
        return None
    if outcome is Outcome.CHANGED_DUPLICATE:
        spool.quarantine(path)
    if outcome is Outcome.DUPLICATE:
        spool.discard(path)
    return outcome


def _record(file: Path, intake: Intake, path: str) -> Outcome:
    with open_file(file) as data:
        transfer_syntax_uid, start, calling_aet = read_file_meta(data)
        header = read_encoded_header(data, transfer_syntax_uid, start)
        with memoryview(data) as whole, whole[start:] as data_set:
            sha256, size_bytes = hashlib.sha256(data_set).hexdigest(), len(data_set)
    arrival = Arrival(header, sha256, size_bytes, path, calling_aet, min(file.stat().st_mtime, intake.now()))
    [outcome] = intake.record_all([arrival])
    return outcome
