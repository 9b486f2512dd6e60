"""When is a study complete? DICOM sends no "end of study", so silence has to say it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class QuietTimes:
    """How long a study must be quiet after its last image; the longest wait ends the matter in any case."""

    cxr_s: float
    ct_s: float
    longest_wait_s: float


def why_complete(
    modality: str, receiving_since_at: float, last_received_at: float, association_open: bool, now: float,
    quiet: QuietTimes,
) -> str | None:
    """Say in words why a study is complete, or return None while more images may come.

    modality: of the study, several joined by a slash; the times are Unix seconds. receiving_since_at: the first image,
    or the first late one after an earlier completion. association_open: a sender that
    sent images of this study has not released its association. A study with any CT waits as long as a CT.
    """
    waited_s = now - receiving_since_at
    if waited_s >= quiet.longest_wait_s:
        return f"{waited_s:.0f} s since the first image, the longest wait is {quiet.longest_wait_s:g} s"
    if association_open:
        return None
    silent_s = now - last_received_at
    needed_s = quiet.ct_s if "CT" in modality.split("/") else quiet.cxr_s
    if silent_s < needed_s:
        return None
    return f"association released and no image for {needed_s:g} s"
