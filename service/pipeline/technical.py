"""The quality of the images, judged by the technical checks that they went through (CID 7036)."""

from __future__ import annotations

from collections.abc import Sequence

from service.domain import codes
from service.domain.codes import Code

_HARMLESS = ("spacing unknown", "the view is not stated", "the patient is under 18", "contrast medium", "no series with a",
             "the same pixels")


def quality_of(notes: Sequence[str]) -> Code:
    """Judge images by the notes on them; what only limits the model does not count."""
    limited = any(not note.startswith(_HARMLESS) for note in notes)
    return codes.LIMITED_QUALITY if limited else codes.DIAGNOSTIC_QUALITY
