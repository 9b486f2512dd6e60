"""A segmentation or report that a person sent back becomes feedback on the study and on its findings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlmodel import Session

from service import logs
from service.domain.finding import Presence
from service.domain.study import Header
from service.domain.verdict import Verdict, Why
from service.errors import FirstlookError, Reason, Rejected, Unavailable
from service.feedback.report import read_report
from service.feedback.said import NAMES, Said, Unfit
from service.feedback.segments import Grid, read_correction
from service.pipeline.line import Line
from service.store.corrections import ATTACHED, SET_ASIDE, next_waiting, still_waiting
from service.store.files import Below, Files
from service.store.studies import StoredImage, add_event, images_of, results_of
from service.store.tables import Correction, ResultObject, Study
from service.store.verdicts import give_verdict

FOLDER = "corrections"
"""Where they are kept, below the folder of the results."""
_log = logs.get("correcting")


def waiting(line: Line) -> tuple[Correction, Study] | None:
    """Return the oldest object that was not judged and whose study has its result, with the study."""
    with line.database.reading() as session:
        return next_waiting(session)


def attach(line: Line, row: Correction, study: Study) -> None:
    """Compare an object with our result, and keep what it says of each finding as a verdict of its sender.

    Raises: Rejected when it cannot be used, which `set_aside` writes down.
    """
    with line.database.reading() as session:
        images = images_of(session, row.study_id)
        results = results_of(session, row.study_id, study.revision)
    try:
        said = _read(line, row, study, images, results)
    except Unfit as error:
        raise Rejected(Reason.FOREIGN_RESULT, str(error)) from error
    now = line.clock()
    with line.database.transaction() as session:
        kept = still_waiting(session, row.id or 0)
        if kept is None:
            return
        verdicts = _give(session, study, said, f"{row.kind.upper()} from {row.calling_aet}", now)
        kept.state, kept.judged_at, kept.revision, kept.told = ATTACHED, now, study.revision, said.to_json()
        session.add(kept)
        add_event(session, row.study_id, now, "feedback", said.words(row.kind, row.calling_aet)
                  + f"; agrees with {verdicts.count(Verdict.AGREE)} findings, disagrees with "
                  f"{verdicts.count(Verdict.DISAGREE)}")
    line.metrics.corrections.labels(row.kind, ATTACHED).inc()
    for finding in study.summary.get("findings", ()):
        verdict = _verdict(finding, said)
        if verdict is not None:
            line.metrics.verdicts.labels(finding.get("bundle") or study.summary["bundle"], finding["name"],
                                         verdict.value).inc()
    _log.info("attached as feedback", extra={"study": study.study_instance_uid, "kind": row.kind})


def set_aside(line: Line, row: Correction, error: FirstlookError) -> None:
    """Say why an object is no feedback, and delete it; one that could not be judged for now stays.

    Raises: the error again when it may pass.
    """
    if isinstance(error, Unavailable):
        raise error
    now, detail = line.clock(), error.detail or error.reason.sentence
    with line.database.transaction() as session:
        kept = still_waiting(session, row.id or 0)
        if kept is None:
            return
        kept.state, kept.judged_at, kept.detail, kept.path = SET_ASIDE, now, detail, ""
        session.add(kept)
        add_event(session, row.study_id, now, "feedback",
                  f"a {NAMES[row.kind]} from {row.calling_aet} is no feedback: {detail}")
    Below(line.results_dir, FOLDER).remove(row.path)
    line.metrics.corrections.labels(row.kind, SET_ASIDE).inc()


def grid_of(images: list[StoredImage]) -> Grid:
    """Return the grid of the images that lie somewhere. Raises: Unfit when there is none, or they differ in size."""
    placed = [i.header for i in images if len(i.header.image_position_patient) == 3 and i.header.rows and i.header.columns]
    sizes = {(h.rows, h.columns) for h in placed}
    if len(sizes) != 1:
        raise Unfit("the images of the study have no position in space, or differ in size")
    [(rows, columns)] = sizes
    return Grid(int(rows or 0), int(columns or 0), {h.sop_instance_uid: _position(h) for h in placed})


def ours_of(files: Files, results: list[ResultObject]) -> Path | None:
    """Return the file of our segmentation, None where there is none."""
    return next((files / r.path for r in results if r.kind == "seg"), None)


def _read(line: Line, row: Correction, study: Study, images: list[StoredImage], results: list[ResultObject]) -> Said:
    path = Below(line.results_dir, FOLDER) / row.path
    if row.kind == "sr":
        return read_report(path, study.patient_id, frozenset(r.sop_instance_uid for r in results if r.kind == "sr"))
    return read_correction(path, ours_of(line.results_dir, results), grid_of(images), study.patient_id)


def _position(header: Header) -> tuple[float, ...]:
    return tuple(header.image_position_patient)


def _give(session: Session, study: Study, said: Said, reader: str, now: float) -> list[Verdict]:
    given = []
    for finding in study.summary.get("findings", ()):
        verdict = _verdict(finding, said)
        if verdict is None:
            continue
        missed = finding["presence"] == Presence.ABSENT.value
        why = Why.NONE if verdict is Verdict.AGREE else Why.MISSED if missed else Why.NOT_THERE
        give_verdict(session, study.study_instance_uid, finding.get("bundle") or str(study.summary["bundle"]),
                     finding["name"], verdict, why, "", reader, now)
        given.append(verdict)
    return given


def _verdict(finding: dict[str, Any], said: Said) -> Verdict | None:
    """Return what the object says of a finding of ours, None where it says nothing of it."""
    presence = said.presence.get(finding.get("code", ""))
    if presence is None:
        return None
    return Verdict.AGREE if finding["presence"] == presence.value else Verdict.DISAGREE
