"""Earlier studies of a patient are fetched from an archive, one in each go, and judged at once: nothing else will come."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from sqlmodel import Session, select

from service import logs
from service.assemble.complete import Because, Complete
from service.deliver.retrieval import Archive, Sent
from service.domain.job import JobState
from service.domain.patient import Match, Patient, worth_fetching
from service.domain.study import Kind
from service.errors import FirstlookError, Reason, Unavailable
from service.pipeline.admit import admit
from service.pipeline.line import Line
from service.pipeline.revising import revise_if_due
from service.receive.storing import Announced
from service.store.arrivals import images_held
from service.store.fetched import FetchedPrior, fetch_of
from service.store.studies import add_event
from service.store.tables import Event, Job, Study

_MODALITIES: Mapping[str, frozenset[str]] = {Kind.CT.value: frozenset({"CT"}), Kind.CXR.value: frozenset({"CR", "DX"})}
_log = logs.get("fetching")


def fetch(line: Line, job: Job) -> None:
    """Fetch the oldest of the earlier studies that are wanted, if any; the job then waits for the next one.

    Raises: Unavailable, to be tried again; Rejected, when the archive refuses for good.
    """
    with line.database.reading() as session:
        study = session.get_one(Study, job.study_id)
    archive = line.archives.get(job.target)
    if archive is None or not study.patient_id:
        _end(line, job, study, "" if archive else "the archive is no longer configured",
             "without a Patient ID no earlier study can be asked for")
        return
    wanted = _wanted(line, archive, study)
    if not wanted:
        _end(line, job, study, "")
        revise_if_due(line, study.id or 0)
        return
    _fetch_one(line, archive, study, wanted[0])
    with line.database.transaction() as session:
        if line.queue.holds(session, job):
            line.queue.defer(session, job, line.clock(), "")


def _end(line: Line, job: Job, study: Study, detail: str, told: str = "") -> None:
    now = line.clock()
    with line.database.transaction() as session:
        if line.queue.holds(session, job):
            line.queue.end(session, job, JobState.DONE, detail=detail)
            if told and not study.patient_id:
                add_event(session, study.id or 0, now, "prior", told)
    line.metrics.jobs.labels(job.kind, "done").inc()


def _wanted(line: Line, archive: Archive, study: Study) -> list[Match]:
    """Ask the archive; return what is still to be fetched, oldest first, and write down whose studies it named."""
    found = archive.studies(study.patient_id)
    patient = Patient(study.patient_id, study.issuer_of_patient_id, study.patient_birth_date)
    when = study.study_date, study.study_time
    wanted, notes = worth_fetching(patient, when, _MODALITIES.get(study.kind, frozenset()), found, (), line.priors)
    now, left = line.clock(), []
    with line.database.transaction() as session:
        for note in notes:
            line.metrics.priors_fetched.labels(archive.name, "mismatch").inc()
            _tell_once(session, study, now, "no_comparison", f"{archive.name}: {note}")
        for match in wanted:
            if match.images > archive.most_images:
                _tell_once(session, study, now, "prior", f"{archive.name}: the study of {match.study_date} has "
                           f"{match.images} images and is not fetched; at most {archive.most_images} are")
            elif not _is_here(session, study, match, archive, now):
                left.append(match)
        if not wanted:
            _tell_once(session, study, now, "prior", f"{archive.name} holds no earlier study to compare with")
    return left


def _is_here(session: Session, study: Study, match: Match, archive: Archive, now: float) -> bool:
    """Tell whether an earlier study was fetched, or received, before; one that is on its way is waited for."""
    known = session.exec(select(Study).where(Study.study_instance_uid == match.study_instance_uid)).first()
    row = fetch_of(session, match.study_instance_uid, study.id or 0)
    if row is not None:
        return row.ended_at is not None
    if known is None:
        return False
    session.add(FetchedPrior(study_instance_uid=match.study_instance_uid, for_study_id=study.id or 0, source=archive.name,
                             asked_at=now, ended_at=now if not known.fetched else known.last_received_at))
    return True


def fetch_whole(line: Line, name: str, study_instance_uid: str) -> None:
    """Fetch the images of a study that is asked for by itself, as work like any other.  Raises: as `fetch`."""
    archive = line.archives[name]
    series = archive.series(study_instance_uid, frozenset().union(*_MODALITIES.values()))
    if not series:
        raise Unavailable(Reason.PEER_UNREACHABLE, f"{name} holds no image of the study")
    arrived = _brought(line, archive, study_instance_uid, series)[1]
    if arrived is not None:
        admit(line, arrived, Complete(Because.FETCHED, f"fetched whole from {name}"))


def _brought(line: Line, archive: Archive, uid: str, series: Mapping[str, int]) -> tuple[int, int | None]:
    """Fetch series of a study; return how many images came, and our number of the study while it is open."""
    assert line.fetched is not None
    line.fetched.begin(uid, archive.ae_title)
    try:
        images = archive.retrieve(uid, series, lambda sent, title: _keep(line, sent, title)) if series else 0
        return images, _arrived(line, uid, images)
    finally:
        line.fetched.end(uid)


def _fetch_one(line: Line, archive: Archive, study: Study, match: Match) -> None:
    uid, modalities = match.study_instance_uid, _MODALITIES[study.kind]
    series = archive.series(uid, modalities)
    with line.database.transaction() as session:
        if fetch_of(session, uid, study.id or 0) is None:
            session.add(FetchedPrior(study_instance_uid=uid, for_study_id=study.id or 0, source=archive.name,
                                     asked_at=line.clock()))
    try:
        images, arrived = _brought(line, archive, uid, series)
    except FirstlookError:
        line.metrics.priors_fetched.labels(archive.name, "failed").inc()
        raise
    now = line.clock()
    with line.database.transaction() as session:
        row = fetch_of(session, uid, study.id or 0)
        assert row is not None
        row.ended_at, row.images = now, images
        session.add(row)
        add_event(session, study.id or 0, now, "prior",
                  f"{archive.name}: the study of {match.study_date} fetched, {images} images (Study Instance UID {uid})")
    line.metrics.priors_fetched.labels(archive.name, "fetched" if images else "empty").inc()
    _log.info("an earlier study was fetched", extra={"study": uid, "archive": archive.name, "images": images})
    if arrived is not None and not admit(line, arrived, Complete(Because.FETCHED, f"fetched whole from {archive.name}")):
        _log.info("an earlier study changed while it was judged", extra={"study": uid})


def _keep(line: Line, sent: Sent, ae_title: str) -> int:
    assert line.fetched is not None
    return line.fetched.keep(Announced(sent.sop_class_uid, sent.sop_instance_uid, sent.abstract_syntax,
                                       sent.transfer_syntax_uid, ae_title), sent.data)


def _arrived(line: Line, uid: str, images: int) -> int | None:
    """Return our number of a study once the rows of its images are there, which follow the files by a moment.

    None when nothing came, or it is no longer open.  Raises: PeerUnavailable when they do not come.
    """
    for _ in range(_LOOKS):
        with line.database.reading() as session:
            study = session.exec(select(Study).where(Study.study_instance_uid == uid)).first()
            if not images or (study is not None and images_held(session, study.id or 0) >= images):
                return study.id if study is not None and study.completed_at is None else None
        threading.Event().wait(_LOOK_S)
    raise Unavailable(Reason.PEER_UNREACHABLE, f"the archive says that it sent {images} images; they did not come here")


_LOOKS, _LOOK_S = 100, 0.1


def _tell_once(session: Session, study: Study, now: float, stage: str, text: str) -> None:
    """Add a line to the trace that is not there yet."""
    if session.exec(select(Event.id).where(Event.study_id == study.id, Event.stage == stage, Event.text == text)).first():
        return
    add_event(session, study.id or 0, now, stage, text)
