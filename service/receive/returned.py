"""Keeps a segmentation or report that another system sends for a study that is here: it may correct a result of ours."""

from __future__ import annotations

from pydicom.uid import (
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
    SegmentationStorage,
)

from service import logs
from service.domain.study import Header
from service.receive.spool import Spool
from service.store.corrections import Arrived, Corrections, Known
from service.store.files import Files

CORRECTION = "correction"
MOST_BYTES = 268_435_456
"""What is larger is taken and not kept: a binary segmentation of a thousand slices has a tenth of it."""
KINDS = {SegmentationStorage: "seg", ComprehensiveSRStorage: "sr", Comprehensive3DSRStorage: "sr", EnhancedSRStorage: "sr",
         BasicTextSRStorage: "sr"}
_log = logs.get("receive.returned")


class Returned:
    """Safe to share between threads. files: where they are kept; min_free_bytes: below this free space nothing is taken."""

    def __init__(self, files: Files, min_free_bytes: int, corrections: Corrections) -> None:
        self._spool, self._corrections = Spool(files.root, min_free_bytes, files), corrections

    def keep(self, header: Header, data: memoryview, transfer_syntax_uid: str, calling_aet: str) -> str | None:
        """Keep an object that is not ours; it can no longer be lost when this returns a word for the metrics.

        data: the data set as received. None: it is of no study here, of no kind that is compared, or too large.
        Raises: OutOfSpace, Unavailable.
        """
        kind = KINDS.get(header.sop_class_uid)
        if kind is None or len(data) > MOST_BYTES:
            return None
        known = self._corrections.known(header.study_instance_uid, header.sop_instance_uid)
        if known is Known.NO_STUDY:
            return None
        if known is Known.HERE:
            return "duplicate"
        spooled = self._spool.write(data, header.sop_class_uid, header.sop_instance_uid, transfer_syntax_uid)
        self._spool.keep(spooled.path)
        arrived = Arrived(header.study_instance_uid, header.sop_class_uid, header.sop_instance_uid, kind, spooled.sha256,
                          spooled.path, calling_aet)
        if not self._corrections.add(arrived):
            self._spool.discard(spooled.path)
            return "duplicate"
        _log.info("kept to be compared", extra={"study": header.study_instance_uid, "kind": kind})
        return CORRECTION
