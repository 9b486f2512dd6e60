"""Verdicts of readers on findings: one of each reader on each finding, which may be changed."""

from __future__ import annotations

from typing import Any

from sqlmodel import Session, col, select

from service.domain.finding import Presence
from service.domain.verdict import Judged, Verdict, Why
from service.store.arrivals import locked
from service.store.tables import Instance, Opinion, Study

MOST_NOTE = 500
"""Characters of a note."""


class NothingToJudge(LookupError):
    """There is no such study, or no such finding in its result. The text says which."""


def give_verdict(
    session: Session, study_instance_uid: str, bundle: str, finding: str, verdict: Verdict, why: Why, note: str, who: str,
    now: float,
) -> Opinion:
    """Keep what a reader says of a finding, in place of what the same reader said before.

    bundle, finding: names as in `Assessment.summary`; note: free text that is shown on the study page only; who: the
    reader's name; now: Unix time, seconds.
    Raises: NothingToJudge.
    """
    number = session.exec(select(Study.id).where(Study.study_instance_uid == study_instance_uid)).one_or_none()
    if number is None:
        raise NothingToJudge("there is no such study here")
    study = locked(session, number)
    said = said_of(study.summary, bundle, finding)
    if said is None:
        raise NothingToJudge("the result of this study has no such finding")
    own = (Opinion.study_id == number, Opinion.bundle == bundle, Opinion.finding == finding, Opinion.reader == who)
    opinion = session.exec(select(Opinion).where(*own)).one_or_none() or Opinion(
        study_id=number, bundle=bundle, finding=finding, reader=who, revision=0, presence="", probability=0.0, threshold=0.0,
        verdict="", at=now)
    opinion.revision, opinion.version, opinion.digest = study.revision, said["version"], said["digest"]
    opinion.presence, opinion.probability, opinion.threshold = said["presence"], said["probability"], said["threshold"]
    opinion.verdict, opinion.why, opinion.note, opinion.at = verdict.value, why.value, note, now
    opinion.sender, opinion.scanner = study.calling_aet, _scanner(session, number)
    session.add(opinion)
    return opinion


def said_of(summary: dict[str, Any], bundle: str, finding: str) -> dict[str, Any] | None:
    """Return what a bundle said of a finding (presence, probability, threshold), with its version and digest."""
    for found in summary.get("findings", ()):
        lead = str(summary.get("bundle", ""))
        if (found.get("bundle") or lead, found["name"]) == (bundle, finding):
            known = {b["name"]: b for b in summary.get("bundles", ())}.get(bundle, {})
            version = found.get("version") or known.get("version", "")
            return {name: found[name] for name in ("presence", "probability", "threshold")} | {
                "version": version, "digest": known.get("digest", "")}
    return None


def verdicts_of(session: Session, study_id: int) -> list[Opinion]:
    """Return what readers said of a study, oldest first."""
    return list(session.exec(select(Opinion).where(Opinion.study_id == study_id).order_by(col(Opinion.at), col(Opinion.id))))


def judged_since(session: Session, since: float) -> list[Judged]:
    """Return every verdict given since a moment (Unix time, seconds), oldest first; without any note."""
    columns = (Study.study_instance_uid, Opinion.revision, Opinion.bundle, Opinion.version, Opinion.digest, Opinion.finding,
               Opinion.presence, Opinion.probability, Opinion.threshold, Opinion.verdict, Opinion.why, Opinion.reader,
               Opinion.at, Opinion.sender, Opinion.scanner)
    rows = session.execute(
        select(*columns).join(Study, col(Study.id) == Opinion.study_id)  # type: ignore[call-overload]
        .where(Opinion.at >= since).order_by(col(Opinion.at), col(Opinion.id))).all()
    return [Judged(**dict(row._mapping) | {
        "presence": Presence(row.presence), "verdict": Verdict(row.verdict), "why": Why(row.why)}) for row in rows]


def _scanner(session: Session, study_id: int) -> str:
    """Return maker and model of the device, as the first image of the study names them; "" when it does not."""
    header = session.exec(
        select(Instance.header).where(Instance.study_id == study_id).order_by(col(Instance.id)).limit(1)).one_or_none()
    names = [str((header or {}).get(name, "")).strip() for name in ("manufacturer", "manufacturer_model_name")]
    return " ".join(filter(None, names))
