"""Then and now in sentences, for the report."""

from __future__ import annotations

import hashlib
import json
import re

from service.domain.prior import Change, Comparison, Turned

_UNITS = {"%": " %", "cm3": " ml", "[hnsf'U]": " HU", "1": ""}


def sentences(comparison: Comparison) -> list[str]:
    """Return what the report says of an earlier study: when it was, what is new or gone, how measurements changed."""
    date = comparison.study_date
    when = f"{date[:4]}-{date[4:6]}-{date[6:]}" if re.fullmatch(r"\d{8}", date) else "an unknown date"
    said = [f"Compared with the study of {when} (Study Instance UID {comparison.study_instance_uid}), read by this "
            "software; the images were not compared with each other."]
    said += [_turned(finding) for finding in comparison.findings if finding.then != finding.now]
    said += [_changed(change) for change in comparison.changes]
    return said + [f"Caution: {text}." for text in comparison.cautions]


def comparison_key(comparison: Comparison | None) -> tuple[str, ...]:
    """Return what the UIDs of objects that tell of a comparison follow from; nothing without one."""
    if comparison is None:
        return ()
    said = json.dumps(comparison.to_json(), sort_keys=True)
    return (f"prior {hashlib.sha256(said.encode()).hexdigest()}",)


def _turned(finding: Turned) -> str:
    return (f"{finding.name}: {finding.then} then ({finding.probability_then:.2f}), {finding.now} now "
            f"({finding.probability_now:.2f}).")


def _changed(change: Change) -> str:
    of = f" of the {change.segment}" if change.segment and change.segment not in change.name else ""
    unit = _UNITS.get(change.unit, f" {change.unit}")
    points = "percentage points" if change.unit == "%" else unit.strip()
    return (f"{change.name}{of}: {change.then:.1f}{unit} then, {change.now:.1f}{unit} now, "
            f"change {change.difference:+.1f} {points}".strip() + ".")
