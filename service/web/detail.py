"""The study page, ready to be written: findings, measurements, objects and trace as words; and both pages as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from service.domain.flag import FIRST_LOOK, WHOLE, Flag, Look, flags_in
from service.domain.job import JobKind, JobState
from service.domain.order import NO_CAP, ReadingOrder
from service.errors import Reason
from service.pipeline.announcements import announcement
from service.store.marks import reopened
from service.store.tables import Delivery, Job, ResultObject, Study
from service.store.worklist import Entry, StudyPage, entry_of
from service.web import words
from service.web.calibration import Notes, unknown
from service.web.compared import ThenAndNow, then_and_now
from service.web.opinions import opinions
from service.web.reader import WebStyle
from service.web.returned import ReturnedLine, returned_as_json, returned_lines
from service.web.rows import Mark, Row, marks, row
from service.web.site import Link, links

_NAMED = 10  # missing images named
_KINDS = {"sr": "Structured report (SR)", "seg": "Segmentation (SEG)", "sc": "Picture of the result (SC)",
          "pr": "Outlines (GSPS)", "ko": "Key images (KOS)"}
_UNITS = {"1": "", "[hnsf'U]": "HU", "cm3": "ml"}
_WORK = {"claiming": "being claimed", "ours": "claimed, under way", "lost": "ended by others"}
_IDENTITY = ("patient_id", "patient_name", "patient_birth_date", "patient_sex")
_TIMES = ("first_received_at", "last_received_at", "completed_at", "deadline_at", "started_at", "assessed_at",
          "delivered_at", "images_deleted_at", "read_at")
_SHOWN = ("study_instance_uid", "accession_number", "study_date", "study_time", "study_description", "modality",
          "calling_aet", "kind", "revision", "state", "state_reason", "state_detail", "delivery", "delivery_detail",
          "ordered_priority", "urgency", "urgency_reason", "reading_urgency", "flag", "read_by")


@dataclass(frozen=True)
class Object:
    """One result object. stored: where it is already, in words; picture: whether a PNG of it can be shown."""

    uid: str
    title: str
    kind: str
    revision: int
    current: bool
    summary: str
    made: str
    stored: str
    picture: bool


@dataclass(frozen=True)
class Step:
    """One line of the trace. since: time after the first image; facts: what the event carries, as "name value"."""

    at: str
    since: str
    stage: str
    text: str
    facts: tuple[str, ...]


@dataclass(frozen=True)
class Measured:
    """One measurement as written."""

    name: str
    value: str
    unit: str


@dataclass(frozen=True)
class Detail:
    """Everything the study page shows; `row` is the study's line of the worklist.

    models: name with version, and digest, of each bundle that had a part in the result; opinions: what readers said, by
    bundle and finding; prior: an earlier study beside it; links: to it in the site's viewers.
    """

    row: Row
    links: tuple[Link, ...]
    ended: bool
    facts: tuple[tuple[str, str], ...]
    models: tuple[tuple[str, str], ...]
    findings: tuple[Mark, ...]
    opinions: dict[tuple[str, str], list[str]]
    returned: tuple[ReturnedLine, ...]
    measurements: tuple[Measured, ...]
    prior: ThenAndNow | None
    limitations: tuple[str, ...]
    objects: tuple[Object, ...]
    jobs: tuple[tuple[str, str, str], ...]
    trace: tuple[Step, ...]


def detail(
    page: StudyPage, now: float, style: WebStyle, pictures: frozenset[str], order: ReadingOrder = NO_CAP,
    notes: Notes = unknown,
) -> Detail:
    """Say one study in words.

    pictures: kinds of objects of which a PNG can be made; order: the one in force; notes: on the calibration of models.
    """
    study, summary = page.study, page.study.summary
    return Detail(
        row=row(entry_of(study, page.place, now, order), now, style.patient_names, style.read_within),
        links=links(style.viewers, study, style.patient_names),
        ended=words.ended(study),
        facts=_facts(page, now),
        models=tuple((f"{b['name']} {b['version']}", str(b["digest"])) for b in summary.get("bundles", ())),
        findings=marks(summary, notes),
        opinions=opinions(page.opinions, now),
        returned=returned_lines(page.corrections, now),
        measurements=tuple(
            Measured(words.humanised(m["name"]), _number(m["value"], m["unit"]), _UNITS.get(m["unit"], m["unit"]))
            for m in summary.get("measurements", ())),
        prior=then_and_now(summary, study.study_date),
        limitations=tuple(summary.get("limitations", ())),
        objects=tuple(_object(page, result, now, pictures) for result in page.results),
        jobs=tuple(_job(job) for job in page.jobs),
        trace=tuple(
            Step(words.clock_time(e.at, now), words.elapsed(e.at - study.first_received_at),
                 words.humanised(e.stage), e.text, tuple(f"{words.spelled(k)} {v}" for k, v in e.data.items()))
            for e in page.events),
    )


def as_json(entry: Entry, patient_names: str) -> dict[str, Any]:
    """Return one study for the API; what `patient_names` hides on the page is absent here too. Times: Unix, seconds."""
    study = entry.study
    said = {name: getattr(study, name) for name in (*_SHOWN, *_TIMES)}
    if patient_names == "full":
        said |= {name: getattr(study, name) for name in _IDENTITY}
    why = words.sentence(study.state_reason)
    return said | {"place_in_queue": entry.place, "waited_s": round(entry.waited_s, 1), "state_sentence": why,
                   "order_reason": words.why_here(study, entry.overdue), "result": study.summary or None}


def page_as_json(page: StudyPage, now: float, patient_names: str, order: ReadingOrder = NO_CAP) -> dict[str, Any]:
    """Return the study page for the API."""
    study = as_json(entry_of(page.study, page.place, now, order), patient_names)
    stored: dict[int | None, dict[str, float]] = {result.id: {} for result in page.results}
    for sent in page.deliveries:
        stored[sent.result_object_id][sent.target] = sent.stored_at
    return study | {
        "images": page.images,
        "verdicts": [
            {"bundle": o.bundle, "finding": o.finding, "verdict": o.verdict, "why": o.why, "reader": o.reader, "at": o.at}
            for o in page.opinions],
        "returned": returned_as_json(page.corrections),
        "objects": [
            {"kind": r.kind, "sop_class_uid": r.sop_class_uid, "sop_instance_uid": r.sop_instance_uid,
             "revision": r.revision, "summary": r.summary, "created_at": r.created_at, "stored_at": stored[r.id]}
            for r in page.results],
        "jobs": [
            {"kind": j.kind, "target": j.target, "revision": j.revision, "state": j.state, "failures": j.failures,
             "reason": j.reason, "detail": j.detail, "queued_at": j.queued_at, "ended_at": j.ended_at}
            for j in page.jobs],
        "trace": [{"at": e.at, "stage": e.stage, "text": e.text, "data": e.data} for e in page.events],
    }


def _facts(page: StudyPage, now: float) -> tuple[tuple[str, str], ...]:
    study = page.study
    images = sum(page.images.values())
    facts = (
        ("Study Instance UID", study.study_instance_uid),
        ("Accession number", study.accession_number),
        ("Study date", words.dicom_date(study.study_date)),
        ("Images", f"{images} in {len(page.images)} series" if images else ""),
        ("Pixels", _pixels(study, now)),
        ("Fetched", f"from {study.calling_aet} to be compared: on no list, not sent" if study.fetched else ""),
        ("Sent by", "" if study.fetched else study.calling_aet),
        ("Received", f"{_moment(study.first_received_at, now)} to {_moment(study.last_received_at, now)}"),
        ("Complete", _completeness(page, now)),
        *_announced(page),
        ("Ordered priority", study.ordered_priority),
        *(("Work item", f"of {i.manager}, priority {i.priority}: {_WORK.get(i.state, i.state)} ({i.uid})")
          for i in page.work_items),
        ("Urgency on arrival", _arrival(study)),
        ("AI result due", _moment(study.deadline_at, now)),
        ("Reason in detail", study.state_detail),
        ("Image quality", study.summary.get("quality", "")),
        *(("Flag", _flag(one, now)) for one in flags_in(study.summary)),
        ("First look", _first_look(study, now)),
        ("Assessed", _moment(study.assessed_at, now)),
        ("Stored in the PACS", _moment(study.delivered_at, now)),
        ("Read", _read(study, now)),
        ("Revision", str(study.revision) if study.revision else ""),
    )
    return tuple((name, value) for name, value in facts if value)


def _flag(flag: Flag, now: float) -> str:
    """Say a flag: finding, probability, threshold, model and version, since when it is up, and by which look."""
    look = " by the first look" if flag.raised_by == Look.FIRST else ""
    return (f"{words.spelled(flag.finding)} {flag.probability:.2f} (threshold {flag.threshold:.2f}), {flag.bundle} "
            f"{flag.version}, raised {_moment(flag.raised_at, now)}{look}")


def _first_look(study: Study, now: float) -> str:
    """Say what a first look has said, and what the full one made of it; "" without one."""
    first = study.summary.get(FIRST_LOOK)
    if not first or first.get(WHOLE):
        return ""
    said = ", ".join(f"{words.spelled(name)} {value:.2f}" for name, value in first["findings"].items())
    came = "the full look has not ended" if first["pending"] else f"{first['came']} by the full look"
    return f"{_moment(first['at'], now)}, {first['slices']} of {first['of']} slices: {said}; {came}"


def _completeness(page: StudyPage, now: float) -> str:
    """Say since when the study is complete, and why it was judged so."""
    if page.study.completed_at is None:
        return "not yet, images may still come"
    why = [e.text for e in page.events if e.stage == "complete"]
    return ": ".join([_moment(page.study.completed_at, now), *why[-1:]])


def _announced(page: StudyPage) -> list[tuple[str, str]]:
    """Say what others announced of the study, and which of those images are missing."""
    told = announcement(page.notices, page.announced)
    if told is None:
        return []
    here = told.listed - len(told.missing)
    more = f" and {len(told.missing) - _NAMED} more" if len(told.missing) > _NAMED else ""
    return [("Announced", f"{told.told}: {here} of {told.listed} announced images are here"),
            ("Missing images", ", ".join(told.missing[:_NAMED]) + more)]


def _pixels(study: Study, now: float) -> str:
    if study.images_deleted_at is None:
        return ""
    return f"Deleted at {_moment(study.images_deleted_at, now)}. {Reason.IMAGES_DELETED.sentence}"


def _read(study: Study, now: float) -> str:
    if study.read_at is None:
        return ""
    return f"{_moment(study.read_at, now)} by {study.read_by}" + (f"; {again}" if (again := reopened(study)) else "")


def _arrival(study: Study) -> str:
    return f"{study.urgency} ({study.urgency_reason})" if study.urgency_reason else study.urgency


def _moment(at: float | None, now: float) -> str:
    return words.clock_time(at, now)


def _object(page: StudyPage, result: ResultObject, now: float, pictures: frozenset[str]) -> Object:
    mine = [d for d in page.deliveries if d.result_object_id == result.id]
    at = [f"{d.target} at {_moment(d.stored_at, now)}{_proof(d)}" for d in mine]
    return Object(
        uid=result.sop_instance_uid, title=_KINDS.get(result.kind, result.kind.upper()), kind=result.kind,
        revision=result.revision, current=result.revision == page.study.revision, summary=result.summary,
        made=_moment(result.created_at, now), stored=", ".join(at) or "not sent yet",
        picture=result.kind in pictures and not (result.kind == "seg" and page.study.images_deleted_at),
    )


def _proof(sent: Delivery) -> str:
    """Say how it is proven that a target keeps an object; nothing where its answer to the sending was enough."""
    if sent.proven_at is None:
        return ", not yet proven"
    return {"commit": ", proven by storage commitment", "cfind": ", proven by a query"}.get(sent.proof, "")


def _job(job: Job) -> tuple[str, str, str]:
    title = {JobKind.DELIVER: f"Deliver to {job.target}", JobKind.PROVE: f"Proof by {job.target}",
             JobKind.FETCH: f"Fetch earlier studies from {job.target}", JobKind.REVISE: "Compare with earlier studies",
             JobKind.SHADOW: f"Look beside the active models: {job.target}"}.get(
        JobKind(job.kind), "Run the model")
    parked = " (needs a person)" if job.state == JobState.PARKED else ""
    tries = f"{job.failures} failed {'try' if job.failures == 1 else 'tries'}" if job.failures else ""
    why = words.sentence(job.reason) if job.reason else ""
    return title, f"{job.state}{parked}", ": ".join(t for t in (why.rstrip("."), job.detail) if t) or tries


def _number(value: float, unit: str) -> str:
    """Write a value with one decimal; a score without a unit as it is."""
    return f"{value:g}" if unit == "1" else f"{value:.1f}"
