"""What a site sets of the pages: links to its own viewers, and how soon studies should be read."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, field_validator

from service.domain.urgency import Urgency
from service.store.tables import Study

_KNOWN = ("study_instance_uid", "accession_number", "patient_id")
_NEVER = ("javascript", "data", "vbscript", "blob", "file")


class SiteViewer(BaseModel):
    """A viewer of the site that the study page leads to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=40, description="Name on the page.")
    url: str = Field(max_length=1000, description="Its address, with {study_instance_uid}, {accession_number} or "
                                                  "{patient_id} in it; https://, http:// or a viewer's own scheme.")

    @field_validator("url")
    @classmethod
    def _template(cls, value: str) -> str:
        scheme, colon, _ = value.partition(":")
        plain = scheme.replace("+", "").replace("-", "").replace(".", "")
        if not colon or not plain.isalnum() or not plain.isascii() or scheme.lower() in _NEVER or not value.isprintable():
            raise ValueError("accepted: an address such as https://viewer.example/?StudyInstanceUIDs={study_instance_uid}")
        try:
            names = [name for _, name, *_ in string.Formatter().parse(value) if name is not None]
        except ValueError as error:
            raise ValueError(f"accepted in braces: {', '.join(_KNOWN)}") from error
        if not names or set(names) - set(_KNOWN):
            raise ValueError(f"accepted in braces, at least one of: {', '.join(_KNOWN)}")
        return value


class ReadWithin(BaseModel):
    """How soon a study should be read after its first image came, minutes, as the list shows it. 0: no target."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stat_min: float = Field(30.0, ge=0, description="stat, minutes.")
    urgent_min: float = Field(120.0, ge=0, description="urgent, minutes.")
    routine_min: float = Field(480.0, ge=0, description="routine, minutes.")
    low_min: float = Field(1440.0, ge=0, description="low, minutes.")

    def seconds(self, urgency: str) -> float:
        """Return the target of an urgency, seconds; 0: none."""
        return 60.0 * float(getattr(self, f"{Urgency(urgency).value}_min"))


READ_WITHIN = ReadWithin()


@dataclass(frozen=True)
class Link:
    """A link to a study in a viewer of the site."""

    name: str
    address: str


def links(viewers: Sequence[SiteViewer], study: Study, patient_names: str) -> tuple[Link, ...]:
    """Return the links to a study, but none that needs what the study lacks, or a patient's ID where it is hidden."""
    known = {"study_instance_uid": study.study_instance_uid, "accession_number": study.accession_number,
             "patient_id": study.patient_id if patient_names == "full" else ""}
    given = {name: quote(value, safe="") for name, value in known.items()}
    made = []
    for viewer in viewers:
        names = {name for _, name, *_ in string.Formatter().parse(viewer.url) if name}
        if all(given[name] for name in names):
            made.append(Link(viewer.name, viewer.url.format(**given)))
    return tuple(made)
