"""Work items of a manager: claimed, done by looking at their study as at any other, and ended with what came of it.

Every step is written down before the manager is told, so that a restart goes on with what was claimed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom import dcmread
from sqlmodel import select

from service import logs
from service.deliver.ups import StepManager, Told
from service.domain.job import DeliveryState, StudyState
from service.domain.workitem import Created, ItemState, Offered, Performance
from service.errors import FirstlookError, Reason, Rejected
from service.pipeline.admit import raise_urgency
from service.pipeline.fetching import fetch_whole
from service.pipeline.line import Line
from service.report.identity import derived_uid
from service.store.studies import add_event, results_of
from service.store.tables import Delivery, Study
from service.store.workitems import WorkItem, known_items, open_items

_SENT = (DeliveryState.NONE.value, DeliveryState.DELIVERED.value)
_UNSENT = (DeliveryState.PARKED.value, DeliveryState.UNPROVEN.value)
_REFUSED = (StudyState.NOT_ASSESSED.value, StudyState.FAILED.value)
_FIRST_REST_S, _LONGEST_REST_S = 2.0, 120.0
_AGAIN_S = 60.0  # an archive that did not hand the images out, or a refusal, is tried again after this
_PROGRESS = {StudyState.RECEIVING.value: "images are coming in", StudyState.QUEUED.value: "queued",
             StudyState.INFERRING.value: "a model is looking at the images"}
_JOINED = "its study is here"
_log = logs.get("workitems")


@dataclass(frozen=True)
class ItemRules:
    """What is claimed, and how long images are waited for: see the table workitems.managers of the settings."""

    codes: tuple[str, ...]
    poll_s: float
    most: int
    wait_s: float
    subscribe: bool
    archive: str = ""


class Watcher:
    """Does the work of one manager. One thread uses it."""

    def __init__(self, line: Line, manager: StepManager, rules: ItemRules) -> None:
        self._line, self._manager, self._rules = line, manager, rules
        self._asked_at = self._rest_until = self._rest_s = 0.0
        self._fetch_after: dict[str, float] = {}
        self._later: dict[str, float] = {}

    def step(self) -> None:
        """Go on with what is ours, then claim more; a manager that does not answer is left alone for a while."""
        now = self._line.clock()
        if now < self._rest_until:
            return
        try:
            self._go_on(now)
            self._rest_s = 0.0
        except FirstlookError as error:
            self._rest_s = min(max(_FIRST_REST_S, 2 * self._rest_s), _LONGEST_REST_S)
            self._rest_until = self._line.clock() + self._rest_s
            _log.warning("a manager does not answer as it should", extra={
                "manager": self._manager.name, "reason": error.reason.value, "detail": error.detail, "rest_s": self._rest_s})

    def _go_on(self, now: float) -> None:
        with self._line.database.reading() as session:
            items = open_items(session, self._manager.name)
        for item in items:
            if now < self._later.get(item.uid, 0.0):
                continue
            try:
                self._advance(item)
            except Rejected as error:  # of this one; the others go on
                self._later[item.uid] = now + _AGAIN_S
                _log.error("the manager refuses to change a work item", extra={"item": item.uid, "detail": error.detail})
        if len(items) < self._rules.most and now - self._asked_at >= self._rules.poll_s:
            self._asked_at = now
            self._claim_more(self._rules.most - len(items))

    def _claim_more(self, room: int) -> None:
        found = [o for o in self._manager.offered() if o.is_for(self._rules.codes, self._manager.station)]
        with self._line.database.reading() as session:
            known = known_items(session, [o.uid for o in found])
        fresh = [o for o in sorted(found, key=lambda o: o.rank) if o.uid not in known]
        for one in fresh[:room]:
            self._claim(self._written(one))

    def _written(self, one: Offered) -> WorkItem:
        """Write a claim down before it is sent."""
        now = self._line.clock()
        item = WorkItem(
            uid=one.uid, manager=self._manager.name, transaction_uid=derived_uid("transaction", one.uid, repr(now)),
            study_instance_uid=one.study_instance_uids[0], priority=one.priority, state=ItemState.CLAIMING.value,
            found_at=now)
        with self._line.database.transaction() as session:
            session.add(item)
        return item

    def _claim(self, item: WorkItem) -> None:
        """Claim, or learn whether an earlier claim of ours was taken: only we know its transaction."""
        told = self._manager.claim(item.uid, item.transaction_uid)
        if told is Told.TAKEN:
            told = self._manager.progress(item.uid, item.transaction_uid, "claimed")
        if told is not Told.DONE:
            self._end(item, ItemState.LOST, f"not ours: {told.value}", "taken")
            return
        if self._rules.subscribe and not self._manager.subscribe(item.uid):
            _log.warning("the manager sends no reports: work cannot be canceled", extra={"manager": self._manager.name})
        self._save(item, state=ItemState.OURS.value, claimed_at=self._line.clock())
        self._line.metrics.work_items.labels(self._manager.name, "claimed").inc()
        _log.info("claimed", extra={"manager": self._manager.name, "study": item.study_instance_uid})

    def _advance(self, item: WorkItem) -> None:
        if item.state == ItemState.CLAIMING.value:
            self._claim(item)
            return
        study = self._study(item)
        if study is None:
            self._without_images(item)
            return
        self._join(item, study)
        final = study.completed_at is not None and study.delivery in _SENT
        if final and study.state == StudyState.ASSESSED.value:
            self._ended(item, study, self._manager.complete(item.uid, item.transaction_uid, self._performance(item, study)),
                        ItemState.COMPLETED, "completed")
        elif final and study.state in _REFUSED:
            reason = Reason(study.state_reason) if study.state_reason else Reason.INTERNAL_ERROR
            self._cancel(item, study, f"{reason.value}: {reason.sentence} {study.state_detail}".strip())
        elif item.cancel_at is not None:
            self._cancel(item, study, "canceled on request")
        else:
            self._tell(item, self._progress(study))

    def _without_images(self, item: WorkItem) -> None:
        """Wait for images, or fetch them; after the longest wait the work item is canceled."""
        now = self._line.clock()
        if item.cancel_at is not None:
            self._cancel(item, None, "canceled on request")
        elif now - (item.claimed_at or item.found_at) > self._rules.wait_s:
            self._cancel(item, None, f"no image of the study came within {self._rules.wait_s / 3600:.1f} hours")
        elif self._rules.archive and now >= self._fetch_after.get(item.uid, 0.0):
            self._fetch_after[item.uid] = now + _AGAIN_S
            self._tell(item, "images are being fetched")
            try:
                fetch_whole(self._line, self._rules.archive, item.study_instance_uid)
            except FirstlookError as error:
                _log.warning("images of a work item could not be fetched", extra={"reason": error.reason.value,
                                                                                 "detail": error.detail})
        else:
            self._tell(item, "waiting for images")

    def _join(self, item: WorkItem, study: Study) -> None:
        """Let the priority of the work item count for the study, once; what was fetched for a comparison becomes work."""
        if item.detail == _JOINED:
            return
        now = self._line.clock()
        with self._line.database.transaction() as session:
            row = session.get_one(Study, study.id)
            if row.fetched:
                row.fetched, row.state, row.completed_at = False, StudyState.RECEIVING.value, None
                row.first_received_at = row.last_received_at = row.receiving_since_at = now
                session.add(row)
            add_event(session, study.id or 0, now, "work_item", f"{self._manager.name} asks for it as work item {item.uid}, "
                      f"priority {item.priority}")
        self._save(item, detail=_JOINED)
        self._fetch_after.pop(item.uid, None)
        raise_urgency(self._line, study.id or 0)

    def _progress(self, study: Study) -> str:
        if study.delivery in _UNSENT:
            return "a result was made; its delivery needs a person"
        return _PROGRESS.get(study.state, "a result was made and is being sent")

    def _tell(self, item: WorkItem, text: str) -> None:
        if item.told == text:
            return
        told = self._manager.progress(item.uid, item.transaction_uid, text)
        if told is Told.DONE:
            self._save(item, told=text)
        else:
            self._end(item, ItemState.LOST, f"the manager has ended it, or given it away: {told.value}", "lost")

    def _cancel(self, item: WorkItem, study: Study | None, reason: str) -> None:
        done = self._performance(item, study)
        self._ended(item, study, self._manager.cancel(item.uid, item.transaction_uid, reason, done), ItemState.CANCELED,
                    f"canceled: {reason}")

    def _ended(self, item: WorkItem, study: Study | None, told: Told, state: ItemState, text: str) -> None:
        if told is not Told.DONE:
            state, text = ItemState.LOST, f"the manager has ended it, or given it away: {told.value}"
        self._end(item, state, text, state.value)
        if study is not None:
            with self._line.database.transaction() as session:
                add_event(session, study.id or 0, self._line.clock(), "work_item", f"{self._manager.name}: {text}")

    def _end(self, item: WorkItem, state: ItemState, detail: str, outcome: str) -> None:
        self._save(item, state=state.value, detail=detail, ended_at=self._line.clock())
        self._line.metrics.work_items.labels(self._manager.name, outcome).inc()
        _log.info("ended", extra={"manager": self._manager.name, "state": state.value, "study": item.study_instance_uid})

    def _save(self, item: WorkItem, **changes: object) -> None:
        with self._line.database.transaction() as session:
            row = session.get_one(WorkItem, item.id)
            for name, value in changes.items():
                setattr(row, name, value)
                setattr(item, name, value)
            session.add(row)

    def _study(self, item: WorkItem) -> Study | None:
        with self._line.database.reading() as session:
            return session.exec(select(Study).where(Study.study_instance_uid == item.study_instance_uid)).first()

    def _performance(self, item: WorkItem, study: Study | None) -> Performance:
        """Return what was made for a study in its present revision, and where it was stored."""
        now = self._line.clock()
        made: Sequence[Created] = ()
        if study is not None:
            with self._line.database.reading() as session:
                rows = results_of(session, study.id or 0, study.revision)
                stored = {r.id: session.exec(select(Delivery.target).where(Delivery.result_object_id == r.id)).first()
                          for r in rows}
            made = [Created(r.sop_class_uid, r.sop_instance_uid, self._series(r.path), self._ae_title(stored[r.id]))
                    for r in rows]
        began = max(item.claimed_at or now, (study.started_at if study else None) or 0.0)
        return Performance(item.study_instance_uid, min(began, now), now, tuple(made))

    def _series(self, path: str) -> str:
        return str(dcmread(self._line.results_dir / path, specific_tags=["SeriesInstanceUID"]).SeriesInstanceUID)

    def _ae_title(self, target: str | None) -> str:
        """Return the AE title that an object can be fetched from; "" where it was stored nowhere, or not by DICOM."""
        outlet = self._line.targets.get(target or "")
        return str(getattr(outlet.target, "ae_title", "")) if outlet is not None else ""
