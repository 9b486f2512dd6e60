"""What becomes of a study: a result, or a refusal with its reason; both go back into the PACS."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from sqlmodel import Session, col, select

from service import logs
from service.domain.finding import Assessment
from service.domain.flag import Look, flags_in, flags_of, pending, revised_by, shown_since
from service.domain.job import JobKind, JobState, StudyState
from service.domain.prior import Comparison
from service.errors import OutOfSpace, Reason
from service.pipeline.completion import Completion, revised
from service.pipeline.first_look import show_flags, withdraw
from service.pipeline.line import Line
from service.pipeline.sending import queue_sending
from service.pipeline.shadowing import queue_shadows
from service.report.build import Made, build_refusal
from service.store.arrivals import locked
from service.store.files import Files
from service.store.leftovers import part_ending
from service.store.studies import add_event, images_of, latest_before
from service.store.tables import Job, ResultObject, Study

_log = logs.get("outcome")


def now_of(line: Line) -> datetime:
    """Return the clock's time as a date in UTC."""
    return datetime.fromtimestamp(line.clock(), UTC)


def previous_reports(line: Line, study: Study, revision: int) -> list[Dataset]:
    """Return the SR of the revision before this one, for its successor to name."""
    with line.database.reading() as session:
        rows = latest_before(session, study.id or 0, revision, "sr")
    return [dcmread(line.results_dir / r.path) for r in rows]


def record(line: Line, job: Job, study: Study, assessment: Assessment, made: Sequence[Made],
           comparison: Comparison | None = None) -> bool:
    """Write the result files, then in one transaction the result, the flag, and the jobs that deliver it.

    Returns False, and writes no row, when another worker holds the job by now.
    """
    paths, again = _kept(line, made), job.kind == JobKind.REVISE.value
    now, revision = line.clock(), job.revision + again
    with line.database.transaction() as session:
        row = locked(session, study.id or 0)
        if not line.queue.holds(session, job):
            return False
        if again and (row.revision != job.revision or row.state != StudyState.ASSESSED.value):
            line.queue.end(session, job, JobState.CANCELLED, detail="images came late; a newer revision follows")
            return False
        row.revision += again
        shown_at = (row.assessed_at or now) if again else now
        told = shown_since(row.summary, row.last_received_at, now)
        came = _show(row, assessment, comparison, shown_at) if row.revision == revision else ""
        session.add(row)
        _add_objects(line, session, row, revision, made, paths)
        line.queue.end(session, job, JobState.DONE)
        if row.revision == revision and not again and not row.fetched:
            queue_shadows(line, session, row, now)
        if comparison is not None:
            add_event(session, row.id or 0, now, "compared", f"with study {comparison.study_instance_uid}"
                      + "".join(f"; {text}" for text in comparison.cautions))
        add_event(session, row.id or 0, now, "reported", _sentence(assessment, made)
                  + (f"; the first look is {came}" if came else ""))
    if came:
        line.metrics.first_looks.labels(came).inc()
    if not again and not row.fetched:
        _count(line, row, assessment, told)
    _log.info("reported", extra={"study": row.study_instance_uid, "revision": revision, "objects": len(made)})
    return True


def _count(line: Line, row: Study, assessment: Assessment, told: float) -> None:
    """Count a result of today's work: not what is compared anew, nor what was fetched. told: when it was on the worklist."""
    for finding in assessment.findings:
        bundle = assessment.speaker(finding).name
        line.metrics.findings.labels(bundle, finding.name, str(finding.presence)).inc()
        line.metrics.probability.labels(bundle, finding.name).observe(finding.probability)
    line.metrics.time_to_notification_seconds.labels(row.urgency, row.kind, assessment.caller.name).observe(
        max(0.0, told - row.last_received_at))


def refuse(line: Line, study: Study, reason: Reason, detail: str, job: Job | None = None,
           state: StudyState = StudyState.NOT_ASSESSED, completion: Completion | None = None) -> bool:
    """End a study without a result: the worklist and an SR in the PACS say why. Silence is never "normal".

    study: its row as last read. completion: given when the study ends with its completion. job: ended with it.
    Returns False, and writes no row, when images came meanwhile.
    """
    if completion is not None:
        completion.apply_to(study, line.clock(), line.target_s)
    silent = study.fetched and not line.priors.deliver
    made = _refusal(line, study, reason, detail) if line.report_refusals and not silent else []
    paths = [_write(line.results_dir, m) for m in made]
    now = line.clock()
    with line.database.transaction() as session:
        row = locked(session, study.id or 0)
        if completion is not None:
            if not completion.still_holds(session, row):
                return False
            completion.apply_to(row, now, line.target_s)
            completion.write_down(session, row, now, revised(row))
        elif row.revision != study.revision:
            return False
        if completion is not None or row.state != StudyState.RECEIVING.value:
            row.state, row.state_reason, row.state_detail = state.value, reason.value, detail
        if state is not StudyState.FAILED or not pending(row.summary):
            withdraw(row)
        session.add(row)
        _add_objects(line, session, row, study.revision, made, paths)
        if job is not None and line.queue.holds(session, job):
            line.queue.end(session, job, JobState.DONE, reason.value, detail)
        add_event(session, row.id or 0, now, state.value, f"{reason.value}: {reason.sentence} {detail}".strip())
    line.metrics.refusals.labels(reason.value).inc()
    _log.info(state.value, extra={"study": study.study_instance_uid, "reason": reason.value})
    return True


def _refusal(line: Line, study: Study, reason: Reason, detail: str) -> list[Made]:
    with line.database.reading() as session:
        images = [i for i in images_of(session, study.id or 0) if i.path]
    if not images or reason is Reason.PATIENT_MISMATCH:  # whose report would it be?
        return []
    sources = [dcmread(line.spool_dir / i.path, stop_before_pixels=True, force=True) for i in images[:_EVIDENCE]]
    return build_refusal(
        source=sources[0], evidence=sources, reason=reason, detail=detail, style=line.style,
        input_digest=study.input_digest, previous=previous_reports(line, study, study.revision),
        now=now_of(line), revision=study.revision)


_EVIDENCE = 50  # images named as evidence in an SR that only says "not assessed"


def _show(row: Study, assessment: Assessment, comparison: Comparison | None, now: float) -> str:
    """Put the result onto the worklist; return what came of a first look, "" where there was none."""
    if row.state != StudyState.RECEIVING.value:  # else images came while the model looked: a new revision follows
        row.state, row.state_reason, row.state_detail = StudyState.ASSESSED.value, "", ""
    before = row.summary if pending(row.summary) else {}
    flags = flags_of(assessment, Look.FULL, now, flags_in(before))
    first, came = revised_by(assessment, before)
    row.assessed_at, row.summary = now, assessment.summary() | {"flags": [f.to_json() for f in flags]} | first
    if comparison is not None:
        row.summary |= {"prior": comparison.to_json()}
    show_flags(row, flags)
    return came


def _add_objects(line: Line, session: Session, study: Study, revision: int, made: Sequence[Made],
                 paths: Sequence[Path]) -> None:
    """Add the rows of the objects and one delivery job for each target; what is there already stays."""
    now = line.clock()
    for one, path in zip(made, paths, strict=True):
        known = session.exec(select(ResultObject).where(ResultObject.sop_instance_uid == one.sop_instance_uid)).first()
        if known is not None:  # the same object: it belongs to this revision too, and is where it was sent
            known.revision = max(known.revision, revision)
            session.add(known)
            continue
        session.add(ResultObject(
            study_id=study.id or 0, revision=revision, kind=one.kind, sop_class_uid=one.sop_class_uid,
            sop_instance_uid=one.sop_instance_uid, path=path.relative_to(line.results_dir.root).as_posix(),
            summary=one.summary, created_at=now))
    if made and (line.priors.deliver or not study.fetched):
        queue_sending(line, session, study, revision, [one.kind for one in made], made[-1].sop_instance_uid)


def _kept(line: Line, made: Sequence[Made]) -> list[Path]:
    """Write the objects that are not there yet, and return where all are: what was sent is not written over."""
    uids = [one.sop_instance_uid for one in made]
    with line.database.reading() as session:
        rows = session.exec(select(ResultObject).where(col(ResultObject.sop_instance_uid).in_(uids))).all()
    there = {row.sop_instance_uid: line.results_dir / row.path for row in rows}
    return [there[one.sop_instance_uid] if one.sop_instance_uid in there and there[one.sop_instance_uid].exists()
            else _write(line.results_dir, one) for one in made]


def _write(results: Files, made: Made) -> Path:
    """Write one object durably under a name of ours.  Raises: OutOfSpace when the disk is full; Unavailable."""
    try:
        path = _written(results.root, made)
        results.keep(path.relative_to(results.root).as_posix())
        return path
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutOfSpace(Reason.OUT_OF_SPACE, "the disk of the results is full") from error
        raise


def _written(root: Path, made: Made) -> Path:
    name = hashlib.sha256(made.sop_instance_uid.encode("ascii")).hexdigest()
    folder = root / name[:2]
    folder.mkdir(parents=True, exist_ok=True)
    path, part = folder / f"{name}.dcm", folder / f"{name}{part_ending()}"  # another may write it, too
    try:
        with part.open("wb") as file:
            made.dataset.save_as(file, enforce_file_format=True)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return path


def _sentence(assessment: Assessment, made: Sequence[Made]) -> str:
    present = [f"{' '.join(filter(None, (f.place, f.name)))} {f.probability:.0%}" for f in assessment.present]
    found = ", ".join(present) if present else "no finding over its threshold"
    bundles = ", ".join(f"{b.name} {b.version}" for b in assessment.bundles)
    return f"{found}; {bundles}; {', '.join(m.kind.upper() for m in made)} made"
