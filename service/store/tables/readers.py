"""The tables of people and programs: what they say and choose, and how they get in."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Column, Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel


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
