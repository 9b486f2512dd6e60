"""The tables of the work: jobs, what bundles said, what was made and where it went."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Column, Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel


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
