"""Keep images that we asked for ourselves (C-GET), as the listener keeps those that are sent."""

from __future__ import annotations

from collections.abc import Callable

from service import logs
from service.errors import FirstlookError
from service.metrics import Metrics
from service.receive.header import is_uid
from service.receive.ledger import Ledger
from service.receive.policy import RESULT_CLASSES, Policy
from service.receive.quota import Quota
from service.receive.spool import Spool
from service.receive.storing import Announced, Storing
from service.receive.tally import Tally
from service.store.intake import Intake

SUCCESS = 0x0000
_log = logs.get("receive.fetched")


class Fetched:
    """Keeps one object at a time; safe to share between threads. policy: for the limits of objects and studies."""

    def __init__(self, policy: Policy, spool: Spool, intake: Intake, metrics: Metrics,
                 is_own: Callable[[str], bool]) -> None:
        quota = Quota(policy.max_study_images, policy.max_study_bytes, intake.sizes_of, intake.study_too_large)
        self._storing = Storing(policy.max_object_bytes, spool, intake, is_own, quota)
        self._ledger, self._metrics = Ledger(), metrics

    def open_studies(self) -> frozenset[str]:
        """Return the Study Instance UIDs of what is being fetched now."""
        return self._ledger.open_studies()

    def begin(self, study_instance_uid: str, ae_title: str) -> None:
        """Note that a study is being fetched: it is not complete before `end`."""
        self._ledger.open(study_instance_uid, ae_title)
        self._ledger.touch(study_instance_uid, study_instance_uid)

    def end(self, study_instance_uid: str) -> None:
        """Note that it has come."""
        self._ledger.close(study_instance_uid)

    def keep(self, announced: Announced, data: bytes) -> int:
        """Keep an object and write it down; return the status of C-STORE. Results are acknowledged and not kept."""
        if announced.sop_class_uid in RESULT_CLASSES:
            return SUCCESS
        try:
            if len(data) > self._storing.max_object_bytes:
                raise self._storing.too_large(len(data))
            if not is_uid(announced.sop_instance_uid):
                return FirstlookError.dimse_status
            with self._storing.begin(announced) as part:
                part.write(data)
                tally = Tally(announced.calling_aet, self._ledger, self._metrics)
                self._storing.write_down(self._storing.keep(announced, part, tally))
        except FirstlookError as error:
            self._metrics.instances.labels("unknown", "refused").inc()
            self._metrics.instances_refused.labels(error.reason).inc()
            _log.warning("an object that was asked for is refused", extra={"reason": error.reason, "detail": error.detail})
            return error.dimse_status
        return SUCCESS
