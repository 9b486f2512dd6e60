"""The tables of studies: what came, what is known of it, and what happened to it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Index, UniqueConstraint, event, false, text
from sqlmodel import Field, SQLModel

from service.domain.codes import NO_FINDING


class Study(SQLModel, table=True):
    """One study: who, what, how urgent, how far, and what was found. The worklist is a query on this table.

    completed_at: when it was judged complete; None while more images may come, though a model may have looked already.
    found: names of the findings over their threshold, "|pneumonia|effusion|", kept in step with the summary; None: none.
    fetched: from an archive, to be compared with another study: on no list, and its result goes nowhere.
    read_at, read_by, read_rank: a person marked it as read when its reading rank was this one. See `store.marks.is_read`.
    """

    id: int | None = Field(default=None, primary_key=True)
    study_instance_uid: str = Field(unique=True, max_length=64)
    patient_id: str = ""
    issuer_of_patient_id: str = ""
    patient_name: str = ""
    patient_birth_date: str = ""
    patient_sex: str = ""
    accession_number: str = ""
    study_date: str = ""
    study_time: str = ""
    study_description: str = ""
    modality: str = ""
    calling_aet: str = ""
    kind: str = ""
    revision: int = 0
    input_digest: str = ""
    state: str = Field(index=True)
    state_reason: str = ""
    state_detail: str = ""
    delivery: str = "none"
    delivery_detail: str = ""
    ordered_priority: str = ""
    urgency: str = "routine"
    urgency_rank: int = 2
    urgency_reason: str = ""
    reading_urgency: str = "routine"
    reading_rank: int = 2
    flag: str = ""
    first_received_at: float
    last_received_at: float
    receiving_since_at: float = 0.0
    completed_at: float | None = None
    deadline_at: float | None = None
    started_at: float | None = None
    assessed_at: float | None = None
    delivered_at: float | None = None
    images_deleted_at: float | None = None
    fetched: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    read_at: float | None = None
    read_by: str | None = None
    read_rank: int | None = None
    summary: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    found: str | None = None

    __table_args__ = (
        Index("ix_study_reading", "reading_rank", "first_received_at"),
        Index("ix_study_completed", "completed_at", "found"),
        Index("ix_study_patient", "patient_id", "first_received_at"),
        Index("ix_study_open", "first_received_at", sqlite_where=text("completed_at IS NULL"),
              postgresql_where=text("completed_at IS NULL")),
    )


def found_in(summary: dict[str, Any]) -> str | None:
    """Return what `Study.found` says of a summary (`Assessment.summary`); "no finding" is none."""
    names = dict.fromkeys(f["name"] for f in summary.get("findings", ())
                          if f.get("presence") == "present" and f.get("code") != NO_FINDING.value)
    return f"|{'|'.join(names)}|" if names else None


@event.listens_for(Study, "before_insert")
@event.listens_for(Study, "before_update")
def _keep_in_step(_mapper: object, _connection: object, study: Study) -> None:
    study.found = found_in(study.summary)


class Instance(SQLModel, table=True):
    """One received image that is kept. path: relative to the spool, "" once deleted; sha256: of the data set as received."""

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id", index=True)
    sop_instance_uid: str = Field(unique=True, max_length=64)
    series_instance_uid: str = Field(max_length=64)
    sha256: str = Field(max_length=64)
    size_bytes: int = Field(sa_type=BigInteger)
    path: str
    received_at: float
    calling_aet: str = ""
    header: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))


class Notice(SQLModel, table=True):
    """What another system told of the images of a study, which may not be here yet: see `assemble.notice`.

    uid: SOP Instance UID of the notice or procedure step; state: how far it is; listed: the SOP Class UID of each SOP
    Instance UID that it names.
    """

    id: int | None = Field(default=None, primary_key=True)
    kind: str
    uid: str = Field(max_length=64)
    study_instance_uid: str = Field(max_length=64, index=True)
    calling_aet: str = ""
    state: str
    received_at: float
    listed: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))

    __table_args__ = (UniqueConstraint("kind", "uid", "study_instance_uid"),)


class SendingNow(SQLModel, table=True):
    """A study of which images are being sent to a listener. See `store.sending`. until_at: it holds until then."""

    process: str = Field(primary_key=True)
    study_instance_uid: str = Field(primary_key=True, max_length=64)
    until_at: float


class Rhythm(SQLModel, table=True):
    """How one sender sent one modality of one study: its longest pauses, seconds. Quiet times are learned from these."""

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id", index=True)
    calling_aet: str
    modality: str
    images: int
    study_pause_s: float
    series_pause_s: float
    at: float

    __table_args__ = (
        UniqueConstraint("study_id", "calling_aet", "modality"),
        Index("ix_rhythm_sender", "calling_aet", "modality", "at"),
    )


class Event(SQLModel, table=True):
    """One line of a study's trace: what happened when. text is free of patient data."""

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id", index=True)
    at: float
    stage: str
    text: str
    data: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
