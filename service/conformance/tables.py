"""The tables of the conformance statement, each read from the code that does what it says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic import BaseModel
from pydicom.datadict import dictionary_description, keyword_for_tag
from pydicom.uid import UID
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    UnifiedProcedureStepPull,
    UnifiedProcedureStepWatch,
    Verification,
)

from service import errors
from service.domain import codes, study
from service.errors import FirstlookError
from service.receive.header import read_tags
from service.receive.notified import notice_contexts
from service.receive.policy import COMPRESSED, IMAGE_CLASSES, RESULT_CLASSES, UNCOMPRESSED, Refusal, contexts
from service.receive.step_reports import step_contexts
from service.report.document import SERIES
from service.sections import Assemble, Receive, Target, Work
from service.settings import Settings

OF_KIND = {
    "seg": (study.SEGMENTATION_STORAGE, "PS3.3 A.51", "CT: lungs and findings, BINARY, on the grid of the source images"),
    "sr": (study.COMPREHENSIVE_3D_SR_STORAGE, "PS3.3 A.35.13, TID 1500", "every study, also one that was not assessed"),
    "sc": (study.SECONDARY_CAPTURE_STORAGE, "PS3.3 A.8", "saliency of a radiograph, key slices of a CT; RGB, with text"),
    "pr": (study.PRESENTATION_STATE_STORAGE, "PS3.3 A.33.1", "outlines on the source images; only if the site wants them"),
    "ko": (study.KEY_OBJECT_SELECTION_STORAGE, "PS3.3 A.35.4, TID 2010", "key images; only if the site wants them"),
}
_TIMERS: tuple[tuple[type[BaseModel], str, tuple[str, ...]], ...] = (
    (Receive, "receive", ("max_associations", "max_pdu_bytes", "max_object_bytes", "association_timeout_s", "idle_timeout_s",
                          "min_free_bytes", "max_study_images", "max_study_bytes")),
    (Assemble, "assemble", ("quiet_cxr_s", "quiet_ct_s", "longest_wait_s", "min_ct_slices", "max_slice_gap_mm",
                            "ct_kernel")),
    (Work, "work", ("tries", "first_wait_s", "wait_factor", "longest_wait_s", "deliver_for_h")),
    (Target, "deliver.targets", ("timeout_s", "transfer_syntax", "proof", "prove_within_s", "report_wait_s")),
)


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    lines = [heads, ["---"] * len(heads), *([str(cell).replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def accepted() -> str:
    """Return the presentation contexts that the listener accepts."""
    rows = [(_named(c.abstract_syntax), _syntaxes(c), _role(c), "no" if c.abstract_syntax in RESULT_CLASSES else "yes")
            for c in (*contexts(), *notice_contexts(), *step_contexts())]
    return table(("SOP class", "transfer syntaxes", "our role", "kept"), rows)


def uncompressed() -> str:
    """Return the names of the uncompressed transfer syntaxes that are accepted."""
    return _names(UNCOMPRESSED)


def compressed() -> str:
    """Return the names of the compressed transfer syntaxes that are accepted."""
    return _names(COMPRESSED)


def proposed() -> str:
    """Return the presentation contexts that are proposed where results go."""
    offered = _names(UNCOMPRESSED)
    rows = [(_named(UID(OF_KIND[kind][0])), offered, "SCU") for kind in SERIES]
    rows += [(_named(c), offered, "SCU") for c in (
        Verification, StorageCommitmentPushModel, StudyRootQueryRetrieveInformationModelFind,
        StudyRootQueryRetrieveInformationModelGet, StudyRootQueryRetrieveInformationModelMove, UnifiedProcedureStepPull,
        UnifiedProcedureStepWatch)]
    every = _names((*UNCOMPRESSED, *COMPRESSED))
    rows += [(_named(c), f"each of {every}", "SCP, on an association of C-GET") for c in IMAGE_CLASSES]
    return table(("SOP class", "transfer syntaxes", "our role"), rows)


def rejections() -> str:
    """Return how an association is rejected, and why."""
    return table(("why", "result", "source", "reason"), [(f"`{r.value}`", *r.answer) for r in Refusal])


def statuses() -> str:
    """Return the statuses that C-STORE answers with."""
    found = {c.dimse_status: c for c in reversed(_errors())}
    rows = [("0x0000", "the object is kept: on the disk, synced, under its final name, or it was here already")]
    rows += [(f"0x{status:04X}", _first_sentence(kind)) for status, kind in sorted(found.items())]
    return table(("status", "meaning"), rows)


def limits() -> str:
    """Return timers and limits, by the setting that changes each."""
    rows = []
    for model, section, names in _TIMERS:
        for name in names:
            info = model.model_fields[name]
            rows.append((f"`{section}.{name}`", str(getattr(info.default, "value", info.default)), info.description))
    return table(("setting", "default", "meaning"), rows)


def results() -> str:
    """Return the kinds of objects that are made."""
    first = int(Settings().report.series_number)
    rows = [(f"`{kind}`", _named(UID(OF_KIND[kind][0])), OF_KIND[kind][1], first + n, OF_KIND[kind][2])
            for n, kind in enumerate(SERIES)]
    return table(("kind", "SOP class", "definition", "series number", "what"), rows)


def attributes_read() -> str:
    """Return the attributes of an image that are read from its header."""
    tags = sorted((tag, keyword_for_tag(tag), dictionary_description(tag)) for tag in read_tags())
    return table(("tag", "keyword", "name"), [(f"({t >> 16:04X},{t & 0xFFFF:04X})", k, name) for t, k, name in tags])


def reasons() -> str:
    """Return every reason with its sentence."""
    return table(("code", "what it says"), [(f"`{r.value}`", r.sentence) for r in errors.Reason])


def concepts() -> str:
    """Return every coded concept that is written."""
    rows = [(c.value, c.scheme, c.meaning, f"CID {c.context_group}" if c.context_group else "")
            for c in sorted(codes.BY_NAME.values(), key=lambda c: (c.scheme, c.meaning))]
    return table(("code value", "scheme", "meaning", "context group"), rows)


def _errors() -> list[type[FirstlookError]]:
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, FirstlookError)]
    return [k for k in kinds if "dimse_status" in vars(k)]


def _first_sentence(kind: type[FirstlookError]) -> str:
    return "an error in this service" if kind is FirstlookError else (kind.__doc__ or "").split("\n")[0].split(": 0x")[0]


def _named(uid: UID | str | None) -> str:
    known = UID(str(uid))
    return f"{known.name} ({known})"


def _syntaxes(context: PresentationContext) -> str:
    """Return the accepted syntaxes by the two lists that the statement prints, or by name when they are others."""
    accepted_here = [str(u) for u in context.transfer_syntax]
    known = {(*UNCOMPRESSED,): "uncompressed", (*UNCOMPRESSED, *COMPRESSED): "uncompressed, compressed"}
    return known.get(tuple(accepted_here), _names(accepted_here))


def _names(syntaxes: Iterable[str]) -> str:
    return "; ".join(UID(u).name for u in syntaxes)


def _role(context: PresentationContext) -> str:
    return "SCU (reports of the peer are taken)" if context.scu_role else "SCP"
