"""What a reader chose to see: read from the address of the page, and offered in its form.

Only codes stand in the address. What a reader searches for may be a patient's name: it is sent in the body of a POST.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar
from urllib.parse import urlencode

from fastapi import HTTPException

from service.domain.job import StudyState
from service.domain.urgency import Urgency
from service.store.filters import MOST_TEXT, Age, Filter, Shown
from service.web import words

MODALITIES = ("CT", "CR", "DX")
HOURS = (4, 24, 168, 720)
"""How far back a reader may look, besides the hours of the settings."""
_AGES = {Age.CHILD: "under 18", Age.ADULT: "18 to 64", Age.OLDER: "65 and over"}
_NAMES = ("shown", "state", "modality", "urgency", "finding", "age", "hours")
_Choice = TypeVar("_Choice", bound=StrEnum)


@dataclass(frozen=True)
class View:
    """What is shown: the filter, how far back, and the address's query that says the same. hours: 0 for the settings'."""

    chosen: Filter
    hours: int
    query: str

    @property
    def narrowed(self) -> bool:
        """Whether less than the whole list is shown."""
        return self.chosen != Filter(shown=self.chosen.shown, search_patient=self.chosen.search_patient)


def view_of(given: Mapping[str, str], text: str, patient_names: str) -> View:
    """Read what was chosen. text: what was searched for; patient_names: with "full" patients are searched too.

    Raises: HTTPException 422 that names what is accepted.
    """
    hours = given.get("hours", "")
    if hours and hours not in [str(h) for h in HOURS]:
        raise HTTPException(422, f"hours: accepted: {', '.join(str(h) for h in HOURS)}.")
    modality, finding = given.get("modality", ""), given.get("finding", "")
    if modality and modality not in MODALITIES:
        raise HTTPException(422, f"modality: accepted: {', '.join(MODALITIES)}.")
    if len(finding) > 64 or (not finding.replace("_", "").replace("-", "").isalnum() and finding):
        raise HTTPException(422, "finding: accepted: the name of a finding.")
    if len(text) > MOST_TEXT or not text.isprintable():
        raise HTTPException(422, f"search: accepted: at most {MOST_TEXT} characters, none of them a control character.")
    chosen = Filter(
        shown=_one_of("shown", Shown, given) or Shown.OPEN, state=_one_of("state", StudyState, given), modality=modality,
        urgency=_one_of("urgency", Urgency, given), finding=finding, text=text.strip(),
        search_patient=patient_names == "full", age=_one_of("age", Age, given) if patient_names != "hidden" else None)
    said = {name: given[name] for name in _NAMES if given.get(name) and (name, given[name]) != ("shown", "open")}
    return View(chosen, int(hours or 0), urlencode(said))


def offered(view: View, findings: Sequence[str], window_h: int, patient_names: str) -> list[dict[str, Any]]:
    """Return the choices of the form: name, label, options of (value, words, whether chosen)."""
    chosen = view.chosen
    known = sorted({*findings, chosen.finding} - {""})
    choices: list[tuple[str, str, list[tuple[str, str]], str]] = [
        ("urgency", "Urgency", [(u.value, u.value) for u in Urgency], chosen.urgency or ""),
        ("finding", "Finding", [(name, words.humanised(name)) for name in known], chosen.finding),
        ("modality", "Modality", [(m, m) for m in MODALITIES], chosen.modality),
        ("state", "Assessment", [(s.value, words.humanised(s.value)) for s in StudyState], chosen.state or ""),
        ("age", "Patient's age", [(a.value, told) for a, told in _AGES.items()], chosen.age or ""),
        ("hours", "Received in", [(str(h), words.duration(h * 3600).removesuffix(" 0 h").replace(" h 00 min", " h"))
                                  for h in HOURS if h != window_h], str(view.hours or "")),
    ]
    return [{"name": name, "label": label, "options": [(value, told, value == now) for value, told in options],
             "any": f"{window_h} h" if name == "hours" else "any"}
            for name, label, options, now in choices if name != "age" or patient_names != "hidden"]


def _one_of(name: str, kind: type[_Choice], given: Mapping[str, str]) -> _Choice | None:
    value = given.get(name, "")
    if value and value not in list(kind):
        raise HTTPException(422, f"{name}: accepted: {', '.join(kind)}.")
    return kind(value) if value else None
