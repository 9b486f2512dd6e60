"""The images worth a look first: Key Object Selection Document, TID 2010 (PS3.3 A.35.4)."""

from __future__ import annotations

from collections.abc import Sequence

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from pydicom.dataset import Dataset

from service.domain import codes
from service.domain.finding import Assessment
from service.report.coded import concept
from service.report.document import Context, Made, anonymous, finish
from service.report.identity import DISCLAIMER, MANUFACTURER
from service.report.structured import observer_of


def key_objects(context: Context, images: Sequence[Dataset], others: Sequence[Dataset], assessment: Assessment) -> Made:
    """Build the selection of some images of a study and of our pictures of them, titled "Of Interest".

    images: at least one; others: our SC of them. The text names the findings that are present.
    """
    evidence = [_image(d) for d in (*images, *others)]
    found = ", ".join(dict.fromkeys(f"{f.place} {f.name}".strip().replace("_", " ") for f in assessment.abnormal))
    text = f"AI: {found}. {DISCLAIMER}"
    made = KeyObjectSelectionDocument(
        evidence=evidence,
        content=KeyObjectSelection(
            document_title=concept(codes.OF_INTEREST), referenced_objects=evidence,
            observer_device_context=observer_of(context.equipment), description=text),
        manufacturer=MANUFACTURER, **context.series("ko"),
    )
    finish(made, context, "key images", [text])
    return Made("ko", made, f"{len(images)} key images")


def _image(source: Dataset) -> Dataset:
    """Return a stand-in that is referred to as an image: with Rows and Columns."""
    made = anonymous(source)
    made.Rows, made.Columns = source.Rows, source.Columns
    return made
