"""The tables of the settings for managers that hand out work items."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator

from service.deliver.places import Peer
from service.tls.sections import PeerTls

_CODE = r"^[^\^\\]{1,16}\^[^\^\\]{1,16}$"


class ManagerPlace(Peer):
    """A manager of Unified Procedure Steps (PS3.4 CC, IHE AIW-I) whose work items are claimed."""

    timeout_s: float = Field(10.0, gt=0, le=600, description="Network time-out, seconds.")
    poll_s: float = Field(10.0, ge=0.1, le=3600, description="It is asked for work this often, seconds.")
    codes: tuple[str, ...] = Field(("110004^DCM", "110003^DCM"), description="Scheduled work item codes that are ours, each "
                                   "VALUE^SCHEME.")
    station: str = Field("FIRSTLOOK^99FIRSTLOOK", pattern=_CODE, description="Our station name code; work that is scheduled "
                         "for other stations is left alone.")
    most: int = Field(8, ge=1, le=100, description="Work items that are ours at the same time.")
    subscribe: bool = Field(True, description="Ask for reports, so that work can be canceled; it must then be under "
                            "receive.peers.")
    archive: str = Field("", description="Archive (of priors.archives) that images which are not here are fetched from; "
                         "empty: they are sent to us.")
    wait_h: float = Field(4.0, gt=0, le=168, description="Without images after this the work item is canceled, hours.")
    tls: PeerTls = Field(default_factory=PeerTls)

    @field_validator("codes")
    @classmethod
    def _some(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or any("^" not in code for code in value):
            raise ValueError("accepted: one or more of VALUE^SCHEME, as 110004^DCM")
        return value


class WorkItems(BaseModel):
    """Work that others hand out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    managers: tuple[ManagerPlace, ...] = Field((), description="Managers of Unified Procedure Steps whose work we do.")

    @field_validator("managers")
    @classmethod
    def _distinct(cls, value: tuple[ManagerPlace, ...]) -> tuple[ManagerPlace, ...]:
        if len({m.name for m in value}) < len(value):
            raise ValueError("two managers have the same name; each needs its own")
        return value
