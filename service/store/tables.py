"""The tables. Every `*_at` is Unix time in seconds, UTC; UIDs are as in DICOM; JSON columns hold JSON text types only."""

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


class Activation(SQLModel, table=True):
    """One switch of the bundles that read a kind of study. bundles: the leading one first, none: as the settings say."""

    id: int | None = Field(default=None, primary_key=True)
    kind: str
    bundles: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    at: float
    who: str = ""
    rolled_back: bool = False


class ShadowLook(SQLModel, table=True):
    """What a bundle said of a study beside the active ones. summary: findings and measurements as `Assessment.summary` has
    them; reason: why it said nothing, "" where it did; seconds: the look as a whole."""

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id", index=True)
    revision: int
    bundle: str
    version: str
    digest: str
    reason: str = ""
    seconds: float
    looked_at: float
    summary: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))

    __table_args__ = (
        UniqueConstraint("study_id", "revision", "bundle"), Index("ix_shadow_look_bundle", "bundle", "looked_at"))


class SendingNow(SQLModel, table=True):
    """A study of which images are being sent to a listener. See `store.sending`. until_at: it holds until then."""

    process: str = Field(primary_key=True)
    study_instance_uid: str = Field(primary_key=True, max_length=64)
    until_at: float


class DriftCount(SQLModel, table=True):
    """How many images of a day, scanner and site fell into each bin of a bundle's reference. See `store.drift`.

    day: days since 1970, UTC; counts: by measure, one for each bin.
    """

    id: int | None = Field(default=None, primary_key=True)
    bundle: str
    digest: str = Field(max_length=64)
    scanner: str
    site: str
    day: int = Field(index=True)
    images: int = 0
    counts: dict[str, list[int]] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))

    __table_args__ = (UniqueConstraint("bundle", "digest", "scanner", "site", "day"),)


class Job(SQLModel, table=True):
    """One thing to do. `key` makes it unique, so a repeated admission cannot queue it twice."""

    id: int | None = Field(default=None, primary_key=True)
    key: str = Field(unique=True)
    kind: str
    study_id: int = Field(foreign_key="study.id", index=True)
    revision: int
    target: str = ""
    urgency: str
    state: str = "waiting"
    queued_at: float
    deadline_at: float
    not_before_at: float = 0.0
    failures: int = 0
    lease_owner: str = ""
    lease_until_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    reason: str = ""
    detail: str = ""

    __table_args__ = (
        Index("ix_job_open", "kind", "target", "deadline_at", "id",
              sqlite_where=text("state IN ('waiting', 'leased')"), postgresql_where=text("state IN ('waiting', 'leased')")),
        Index("ix_job_due", "kind", "target", "urgency", "not_before_at",
              sqlite_where=text("state = 'waiting'"), postgresql_where=text("state = 'waiting'")),
        Index("ix_job_leased", "kind", "target", "lease_until_at",
              sqlite_where=text("state = 'leased'"), postgresql_where=text("state = 'leased'")),
        Index("ix_job_parked", "kind", sqlite_where=text("state = 'parked'"), postgresql_where=text("state = 'parked'")),
    )


class ResultObject(SQLModel, table=True):
    """One DICOM object that we made. kind: seg, sr, sc, pr, ko; path: relative to the results folder."""

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id", index=True)
    revision: int
    kind: str
    sop_class_uid: str
    sop_instance_uid: str = Field(unique=True, max_length=64)
    path: str
    summary: str = ""
    created_at: float

    __table_args__ = (UniqueConstraint("study_id", "revision", "sop_instance_uid"),)


class Delivery(SQLModel, table=True):
    """One object at one target: when it was stored there, and since when and how that is proven.

    proof: stored (the answer was enough), cfind or commit; empty while not proven.
    """

    id: int | None = Field(default=None, primary_key=True)
    result_object_id: int = Field(foreign_key="resultobject.id", index=True)
    target: str
    stored_at: float
    proven_at: float | None = None
    proof: str = ""

    __table_args__ = (
        UniqueConstraint("result_object_id", "target"),
        Index("ix_delivery_unproven", "target",
              sqlite_where=text("proven_at IS NULL"), postgresql_where=text("proven_at IS NULL")),
    )


class Commitment(SQLModel, table=True):
    """One transaction of storage commitment: written down before the peer is asked, for its answer may come first.

    objects: SOP Class UID by SOP Instance UID. due_at: no answer until then, and a query decides. taken_at: the peer took
    the request. kept, failed: its answer, of these objects only. judged_at: the answer was acted upon. given_up_at: it
    was not waited for any longer, or never asked.
    """

    id: int | None = Field(default=None, primary_key=True)
    transaction_uid: str = Field(unique=True, max_length=64)
    study_id: int = Field(foreign_key="study.id", index=True)
    revision: int
    target: str
    objects: dict[str, str] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    asked_at: float
    due_at: float
    taken_at: float | None = None
    answered_at: float | None = None
    kept: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    failed: dict[str, int] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    judged_at: float | None = None
    given_up_at: float | None = None


class Event(SQLModel, table=True):
    """One line of a study's trace: what happened when. text is free of patient data."""

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id", index=True)
    at: float
    stage: str
    text: str
    data: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))


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


class Opinion(SQLModel, table=True):
    """What one reader says of one finding: agree or disagree, why, and what the model had said. See `store.verdicts`.

    note: free text of a person; it never leaves the study page. sender, scanner: for figures by site and device.
    """

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id", index=True)
    reader: str
    revision: int
    bundle: str
    version: str = ""
    digest: str = ""
    finding: str
    presence: str
    probability: float
    threshold: float
    verdict: str
    why: str = ""
    note: str = ""
    at: float = Field(index=True)
    sender: str = ""
    scanner: str = ""

    __table_args__ = (UniqueConstraint("study_id", "bundle", "finding", "reader"),)


class SavedView(SQLModel, table=True):
    """What one reader chose to see of the list, under a name. query: of the list's address; it holds codes only, no text."""

    id: int | None = Field(default=None, primary_key=True)
    reader: str
    name: str
    query: str
    at: float

    __table_args__ = (UniqueConstraint("reader", "name"),)


class Correction(SQLModel, table=True):
    """A segmentation or report that somebody sent back for a study: what a person says of our result. See `feedback`.

    kind: seg, sr; path: relative to the folder of the corrections, "" where it is not kept any more; state: waiting,
    attached, set_aside; detail: why it was set aside; revision: of the study it was compared with; told: what was found,
    see `feedback.said.Said.to_json`, free of patient data.
    """

    id: int | None = Field(default=None, primary_key=True)
    study_id: int = Field(foreign_key="study.id", index=True)
    sop_class_uid: str
    sop_instance_uid: str = Field(unique=True, max_length=64)
    sha256: str = Field(max_length=64)
    kind: str
    path: str
    calling_aet: str = ""
    received_at: float
    state: str = "waiting"
    detail: str = ""
    revision: int = 0
    judged_at: float | None = None
    told: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))

    __table_args__ = (
        Index("ix_correction_waiting", "id", sqlite_where=text("state = 'waiting'"),
              postgresql_where=text("state = 'waiting'")),
    )


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


class Account(SQLModel, table=True):
    """Somebody who may use the pages, or a program that may read them.

    role: of `domain.person`; password_hash: Argon2id, "" where no password is taken. A name is kept in small letters.
    subject: SHA-256 of issuer and subject where the hospital's identity provider vouches for it, None for a local account.
    """

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True, max_length=64)
    role: str
    password_hash: str = ""
    created_at: float
    password_set_at: float | None = None
    disabled_at: float | None = None
    subject: str | None = Field(default=None, unique=True, max_length=64)


class LoginSession(SQLModel, table=True):
    """One login. digest: SHA-256 of the cookie's token; seen_at: the last thing its person did; ends_at: at the latest."""

    id: int | None = Field(default=None, primary_key=True)
    digest: str = Field(unique=True, max_length=64)
    account_id: int = Field(foreign_key="account.id", index=True)
    started_at: float
    seen_at: float
    ends_at: float = Field(index=True)


class LoginLink(SQLModel, table=True):
    """A link that lets an account in once. digest: SHA-256 of its key; ends_at: it holds no longer, used or not."""

    id: int | None = Field(default=None, primary_key=True)
    digest: str = Field(unique=True, max_length=64)
    account_id: int = Field(foreign_key="account.id", index=True)
    ends_at: float


class AccessToken(SQLModel, table=True):
    """A token by which a program reads. digest: SHA-256 of it; ends_at: None, it holds until it is revoked."""

    id: int | None = Field(default=None, primary_key=True)
    digest: str = Field(unique=True, max_length=64)
    account_id: int = Field(foreign_key="account.id", index=True)
    created_at: float
    ends_at: float | None = None
    revoked_at: float | None = None


class LoginTry(SQLModel, table=True):
    """A login that failed, or is being judged. about: the address, or SHA-256 of the name (people type passwords there)."""

    id: int | None = Field(default=None, primary_key=True)
    about: str = Field(max_length=80)
    at: float

    __table_args__ = (Index("ix_logintry_about", "about", "at"),)
