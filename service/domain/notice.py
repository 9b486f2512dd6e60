"""What other systems announce of a study: instances that are available, procedure steps that have ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from service.domain.study import CR_IMAGE_STORAGE, CT_IMAGE_STORAGE, DX_FOR_PRESENTATION, ENHANCED_CT_IMAGE_STORAGE

KEPT_CLASSES = frozenset((CR_IMAGE_STORAGE, DX_FOR_PRESENTATION, CT_IMAGE_STORAGE, ENHANCED_CT_IMAGE_STORAGE))


class NoticeKind(StrEnum):
    """Instance Availability Notification (PS3.4 Annex R) or Modality Performed Procedure Step (PS3.4 Annex F)."""

    AVAILABILITY = "availability"
    PROCEDURE_STEP = "procedure_step"


class NoticeState(StrEnum):
    """How far it is with what a notice tells of. AVAILABLE is of instances, the others of a procedure step."""

    AVAILABLE = "available"
    IN_PROGRESS = "in progress"
    COMPLETED = "completed"
    DISCONTINUED = "discontinued"


@dataclass(frozen=True)
class Notified:
    """One message about images. state: None where a procedure step says nothing of it.

    uid: SOP Instance UID of the notification or procedure step; study_instance_uids: the studies that it names; listed:
    SOP Class UID of each SOP Instance UID that it lists.
    """

    kind: NoticeKind
    uid: str
    state: NoticeState | None
    study_instance_uids: tuple[str, ...] = ()
    listed: Mapping[str, str] = field(default_factory=dict)
