"""The tables of the settings for archives that earlier studies are fetched from."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator

from service.deliver.places import Peer
from service.deliver.retrieval import Retrieve
from service.tls.sections import PeerTls


class ArchivePlace(Peer):
    """A PACS that studies are fetched from."""

    retrieve: Retrieve = Field(Retrieve.GET, description="get: images come on our association (C-GET); move: it sends them "
                               "to our listener (C-MOVE), so it must know receive.ae_title and be under receive.peers.")
    timeout_s: float = Field(60.0, gt=0, le=600, description="Longest silence while it answers, seconds.")
    most_images: int = Field(3000, ge=1, le=20000, description="A study with more images than this is not fetched.")
    tls: PeerTls = Field(default_factory=PeerTls)


class Priors(BaseModel):
    """Earlier studies of a patient: fetched, looked at behind all other work, compared with the present one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    most_studies: int = Field(3, ge=1, le=12, description="Earlier studies of the same kind that are fetched, the latest.")
    max_age_days: int = Field(1095, ge=1, le=36500, description="None that is older than this, days.")
    deliver: bool = Field(False, description="Their results are sent to the targets too; false: they stay here.")
    archives: tuple[ArchivePlace, ...] = Field((), description="PACS that earlier studies are fetched from; none: what was "
                                               "received is compared with what was received before.")

    @field_validator("archives")
    @classmethod
    def _distinct(cls, value: tuple[ArchivePlace, ...]) -> tuple[ArchivePlace, ...]:
        if len({a.name for a in value}) < len(value):
            raise ValueError("two archives have the same name; each needs its own")
        return value
