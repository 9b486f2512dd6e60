"""What the demo shows in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydicom import dcmread
from rich import box
from rich.table import Table
from rich.text import Text

from service import DISCLAIMER
from service.demo.followed import Followed
from service.demo.pacs import Received

STEPS = ("received", "complete", "queued", "inferring", "reported", "stored")
_COLOURS = {"stat": "bold red", "urgent": "yellow", "routine": "white", "low": "dim"}
_TOLD = ("Finding", "Clinical finding absent", "CAD Processing and Findings Summary")
_RESULTS = {"1.2.840.10008.5.1.4.1.1.66.4": "SEG", "1.2.840.10008.5.1.4.1.1.88.34": "SR", "1.2.840.10008.5.1.4.1.1.7": "SC"}


def progress_table(followed: Sequence[Followed]) -> Table:
    """Return the live table: one line a study, a tick for each step done, and the newest line of its trace."""
    table = Table("study", "urgency", *STEPS, "now", box=box.SIMPLE_HEAD, expand=True)
    for study in followed:
        stages = [e["stage"] for e in study.said.get("trace", [])]
        seen = {"received"} if study.said else set()
        seen |= set(stages)
        ticks = [Text("●", "green") if step in seen else Text("·", "dim") for step in STEPS]
        newest = study.said["trace"][-1]["text"] if stages else ("on its way" if study.sent else "waits to be sent")
        urgency = study.said.get("urgency", "") if "complete" in seen else ""
        table.add_row(name_of(study), Text(urgency, _COLOURS.get(urgency, "")), *ticks, Text(study.error or newest))
    return table


def name_of(study: Followed) -> str:
    """Return a short name of a study: what it is and how many images."""
    return f"{study.files[0].parent.name.upper()} {study.files[0].stem[:18]}" if len(study.files) == 1 else (
        f"{study.files[0].parent.name.upper()} {len(study.files)} slices")


def worklist_table(studies: Sequence[dict[str, Any]]) -> Table:
    """Return the worklist as the page orders it: what to read next first."""
    table = Table("#", "read", "flag", "findings", "modality", "ordered", "why this place", "state", "in PACS",
                  title="Worklist: what to read next", caption=DISCLAIMER, box=box.SIMPLE_HEAD)
    for place, study in enumerate(studies, 1):
        urgency = study["reading_urgency"]
        found = [f"{f['name']} {f['probability']:.0%}" for f in (study["result"] or {}).get("findings", [])
                 if f["presence"] == "present"]
        table.add_row(
            str(place), Text(urgency, _COLOURS.get(urgency, "")),
            Text(f"▲ {study['flag']}" if study["flag"] else "no flag"),
            ", ".join(found) or study["state_sentence"] or "nothing over its threshold",
            study["modality"], study["urgency"], study["order_reason"],
            study["state"].replace("_", " "), study["delivery"])
    return table


def results_table(held: Sequence[Received]) -> Table:
    """Return what the PACS holds of ours: the file of each object and one line about it."""
    table = Table("object", "what it says", "file", title="What came back into the PACS", box=box.SIMPLE_HEAD)
    for one in held:
        if one.sop_class_uid in _RESULTS:
            table.add_row(_RESULTS[one.sop_class_uid], summary_of(one), Text(str(one.path), overflow="fold"))
    return table


def summary_of(one: Received) -> str:
    """Read one of our objects back and say it in one line."""
    ds = dcmread(one.path)
    described = str(ds.get("SeriesDescription", ""))
    kind = _RESULTS[one.sop_class_uid]
    if kind == "SEG":
        labels = ", ".join(str(s.SegmentLabel) for s in ds.SegmentSequence)
        return f"{described}: {ds.NumberOfFrames} frames of {ds.Rows} x {ds.Columns}; {labels}"
    if kind == "SR":
        return f"{described}: {'; '.join(_said(ds))[:160]}"
    return f"{described}: {ds.Rows} x {ds.Columns} picture"


def _said(item: Any) -> list[str]:
    """Return the findings, the percent involved and the refusal of a report's content tree."""
    told = []
    for part in item.get("ContentSequence", []):
        name = part.ConceptNameCodeSequence[0].CodeMeaning if "ConceptNameCodeSequence" in part else ""
        if part.ValueType == "CODE" and name in _TOLD:
            prefix = "absent: " if "absent" in name else ""
            told.append(prefix + part.ConceptCodeSequence[0].CodeMeaning)
        elif part.ValueType == "NUM" and name in ("Percent of lung involved", "Probability"):
            value = part.MeasuredValueSequence[0]
            told.append(f"{name} {float(value.NumericValue):.1f} %")
        told += _said(part)
    return list(dict.fromkeys(told))


def outcome_table(followed: Sequence[Followed]) -> Table:
    """Return, for each study, the time from its last image to the result and to the PACS, seconds."""
    table = Table("study", "images", "urgency", "last image to result", "last image to PACS", title="How long it took",
                  box=box.SIMPLE_HEAD)
    for study in followed:
        said = study.said
        last = said.get("last_received_at")
        times = [f"{said[k] - last:.1f} s" if last and said.get(k) else "-" for k in ("assessed_at", "delivered_at")]
        table.add_row(name_of(study), str(len(study.files)), said.get("urgency", "-"), *times)
    return table
