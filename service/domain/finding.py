"""What a model says about a study, before it becomes DICOM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.domain.codes import NO_FINDING, Code
from service.domain.lesion import Lesion
from service.domain.urgency import Urgency

Outline = tuple[tuple[float, float], ...]
"""A closed polygon on one image: (column, row) points in pixels as in Graphic Data, the first repeated at the end."""


class Presence(StrEnum):
    """Whether a finding is there, by the bundle's threshold."""

    PRESENT = "present"
    ABSENT = "absent"


@dataclass(frozen=True)
class BundleIdentity:
    """Which model spoke. digest: sha256 of model.onnx, hex; device_uid: derived from the digest, new weights new UID."""

    name: str
    version: str
    digest: str
    title: str
    device_uid: str


@dataclass(frozen=True)
class Finding:
    """One qualitative finding. probability and threshold are in 0..1; sop_instance_uid: the image with the highest score.

    urgency: what this finding asks for when present ("urgent", "stat"), or "" when it asks for nothing. zone: third of
    the lung where the evidence peaks. bundle: who said it; None: the assessment's own. outlines: where on that image the
    evidence is strong, the strongest first. by_image: SOP Instance UID and score, 0..1, of each radiograph that was read.
    """

    name: str
    code: Code
    presence: Presence
    probability: float
    threshold: float
    site: Code | None = None
    laterality: Code | None = None
    sop_instance_uid: str = ""
    urgency: str = ""
    zone: Code | None = None
    bundle: BundleIdentity | None = None
    outlines: tuple[Outline, ...] = ()
    by_image: tuple[tuple[str, float], ...] = ()

    @property
    def place(self) -> str:
        """Side and zone in words: "right lower zone", "bilateral", or "" where neither is known."""
        zone = self.zone.meaning.removesuffix(" of lung") if self.zone else ""
        return " ".join(filter(None, (self.laterality.meaning if self.laterality else "", zone))).lower()


@dataclass(frozen=True)
class Measurement:
    """One number. segment: label of the segment it was measured on ("left lung"), or "" for the whole study."""

    name: str
    code: Code
    value: float
    unit: Code
    segment: str = ""
    site: Code | None = None
    laterality: Code | None = None
    method: Code | None = None


@dataclass(frozen=True)
class Segment:
    """One segment of the SEG. number: from 1, its bit in `Assessment.masks`; colour: (r, g, b) 0..255 for display."""

    number: int
    label: str
    category: Code
    property_type: Code
    colour: tuple[int, int, int]
    laterality: Code | None = None


@dataclass(frozen=True, eq=False)
class Assessment:
    """Everything that is said about one study, by one bundle or, once `together`, by several.

    masks: (z, y, x) uint8 on the source grid in the order of the selection; segment n is the bit 1 << (n - 1), so
    segments may overlap (a lung holds its infection). None for radiographs.
    saliency: by SOP Instance UID, (y, x) float32 in 0..1 on the source pixel grid; empty for CT.
    lesions: the pieces of what is abnormal, the largest first, once they were looked for.
    quality: of the images by technical checks (CID 7036); None: not judged.
    others: bundles that spoke or helped besides `bundle`, which leads; drawn_by: whose masks or saliency these are, None:
    those of `bundle`.
    """

    bundle: BundleIdentity
    findings: tuple[Finding, ...]
    measurements: tuple[Measurement, ...] = ()
    limitations: tuple[str, ...] = ()
    segments: tuple[Segment, ...] = ()
    masks: NDArray[np.uint8] | None = None
    saliency: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    quality: Code | None = None
    others: tuple[BundleIdentity, ...] = ()
    drawn_by: BundleIdentity | None = None
    lesions: tuple[Lesion, ...] = ()

    @property
    def bundles(self) -> tuple[BundleIdentity, ...]:
        """Every bundle that had a part in this, the leading one first."""
        return (self.bundle, *self.others)

    @property
    def drawer(self) -> BundleIdentity:
        """The bundle whose masks or saliency these are."""
        return self.drawn_by or self.bundle

    def speaker(self, finding: Finding) -> BundleIdentity:
        """Return the bundle that said a finding."""
        return finding.bundle or self.bundle

    @property
    def caller(self) -> BundleIdentity:
        """The bundle whose finding calls for the most urgent reading; the leading one when none does."""
        calling = [f for f in self.present if f.urgency]
        return self.speaker(min(calling, key=lambda f: Urgency(f.urgency).rank)) if calling else self.bundle

    @property
    def abnormal(self) -> tuple[Finding, ...]:
        """The present findings other than "no finding", most probable first."""
        return tuple(f for f in self.present if f.code != NO_FINDING)

    @property
    def present(self) -> tuple[Finding, ...]:
        """The findings over their threshold, most probable first."""
        over = [f for f in self.findings if f.presence is Presence.PRESENT]
        return tuple(sorted(over, key=lambda f: -f.probability))

    def mask(self, segment: Segment) -> NDArray[np.bool_]:
        """Return the (z, y, x) mask of one segment."""
        if self.masks is None:
            raise ValueError("this assessment has no masks")
        mask: NDArray[np.bool_] = (self.masks & np.uint8(1 << (segment.number - 1))) != 0
        return mask

    def summary(self) -> dict[str, Any]:
        """Return what the worklist and the API show, as JSON types."""
        return {
            "bundle": self.bundle.name,
            "version": self.bundle.version,
            "digest": self.bundle.digest,
            "bundles": [{"name": b.name, "version": b.version, "digest": b.digest} for b in self.bundles],
            "findings": [
                {
                    "name": f.name, "code": f.code.value, "presence": str(f.presence),
                    "probability": round(f.probability, 4),
                    "threshold": f.threshold, "laterality": f.laterality.meaning if f.laterality else "",
                    "zone": f.zone.meaning if f.zone else "", "place": f.place, "urgency": f.urgency,
                    "bundle": self.speaker(f).name, "version": self.speaker(f).version,
                }
                for f in self.findings
            ],
            "measurements": [
                {"name": m.name, "value": round(m.value, 3), "unit": m.unit.value, "segment": m.segment}
                for m in self.measurements
            ],
            **({"lesions": [lesion.to_json() for lesion in self.lesions]} if self.lesions else {}),
            "limitations": list(self.limitations),
            "quality": self.quality.meaning if self.quality else "",
        }


def together(said: Sequence[Assessment], helpers: Sequence[BundleIdentity] = ()) -> Assessment:
    """Put what several bundles said about one study into one assessment, the first of them leading.

    Masks, segments and saliency are those of the first bundle that has any; each finding names its bundle; "no finding"
    stays present only when no bundle found anything. helpers: bundles that judged or placed, but said no finding.
    """
    drawing = next((a for a in said if a.masks is not None or a.saliency), said[0])
    found = [replace(f, bundle=a.speaker(f)) for a in said for f in a.findings]
    if any(f.presence is Presence.PRESENT and f.code != NO_FINDING for f in found):
        found = [replace(f, presence=Presence.ABSENT) if f.code == NO_FINDING else f for f in found]
    return replace(
        said[0], findings=tuple(found), measurements=tuple(m for a in said for m in a.measurements),
        limitations=tuple(dict.fromkeys(text for a in said for text in a.limitations)),
        segments=drawing.segments, masks=drawing.masks, saliency=drawing.saliency,
        others=(*(a.bundle for a in said[1:]), *helpers), drawn_by=drawing.bundle)
