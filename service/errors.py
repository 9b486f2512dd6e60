"""One tree of errors, and the reason codes that every surface shows alike.

    FirstlookError
    ├── Rejected       the input can never be used: not retried
    │   ├── BadInstance      an object that C-STORE must not accept
    │   ├── UnusableStudy    a study, series or image that no model may read
    │   └── RefusedByPeer    a PACS that will never take this object
    ├── Unavailable    something is away for now: retried with back-off
    │   ├── PeerUnavailable  a PACS that does not answer
    │   ├── OutOfSpace       no room on the disk
    │   └── EngineUnavailable a model session that failed to run
    └── Defect         our own fault: parked, and shown as such
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why a study was not assessed, an object not accepted or a job parked; shown alike in SR, worklist and trace."""

    NO_SUPPORTED_IMAGES = "no_supported_images"
    PATIENT_MISMATCH = "patient_mismatch"
    NOT_CHEST = "not_chest"
    LATERAL_VIEW = "lateral_view"
    FOR_PROCESSING = "for_processing"
    SECONDARY_CAPTURE = "secondary_capture"
    LOCALIZER_ONLY = "localizer_only"
    DERIVED_ONLY = "derived_only"
    TOO_FEW_SLICES = "too_few_slices"
    NOT_AXIAL = "not_axial"
    MULTIFRAME = "multiframe"
    MISSING_SLICES = "missing_slices"
    CONFLICTING_DUPLICATES = "conflicting_duplicates"
    VARIABLE_GEOMETRY = "variable_geometry"
    SLICES_TOO_THICK = "slices_too_thick"
    INVALID_GEOMETRY = "invalid_geometry"
    INVALID_PIXEL_DESCRIPTION = "invalid_pixel_description"
    INVALID_RESCALE = "invalid_rescale"
    UNREADABLE_PIXELS = "unreadable_pixels"
    DECODER_FAILED = "decoder_failed"
    BLANK_IMAGE = "blank_image"
    ROTATED_IMAGE = "rotated_image"
    IMAGE_TOO_SMALL = "image_too_small"
    NOT_A_FRONTAL_CHEST = "not_a_frontal_chest"
    IMAGE_INVERTED = "image_inverted"
    IMAGE_CLIPPED = "image_clipped"
    IMAGE_OF_A_CHILD = "image_of_a_child"
    IMAGE_OF_AN_ANIMAL = "image_of_an_animal"
    UNSUITABLE_IMAGE = "unsuitable_image"
    UNFAMILIAR_IMAGE = "unfamiliar_image"
    NO_LUNG_FOUND = "no_lung_found"
    NO_MODEL = "no_model"
    OBJECT_MALFORMED = "object_malformed"
    OBJECT_MISMATCH = "object_mismatch"
    CHANGED_DUPLICATE = "changed_duplicate"
    OWN_RESULT = "own_result"
    FOREIGN_RESULT = "foreign_result"
    IMAGES_DELETED = "images_deleted"
    PEER_UNREACHABLE = "peer_unreachable"
    PEER_REFUSED = "peer_refused"
    NOT_COMMITTED = "not_committed"
    OUT_OF_SPACE = "out_of_space"
    STUDY_TOO_LARGE = "study_too_large"
    ENGINE_FAILED = "engine_failed"
    INTERNAL_ERROR = "internal_error"

    @property
    def sentence(self) -> str:
        """A sentence for a person; no patient data."""
        return _SENTENCES[self]


_SENTENCES: dict[Reason, str] = {
    Reason.NO_SUPPORTED_IMAGES: "The study holds no chest radiograph (CR, DX) and no CT image that could be read.",
    Reason.PATIENT_MISMATCH: "Images of this study carry different patient IDs; it is held for a person to decide.",
    Reason.NOT_CHEST: "The images are labelled as another body part than the chest.",
    Reason.LATERAL_VIEW: "Only lateral or other non-frontal views; the model reads frontal radiographs only.",
    Reason.FOR_PROCESSING: "The radiograph is raw detector data (FOR PROCESSING), not meant to be read.",
    Reason.SECONDARY_CAPTURE: "The radiograph is a secondary capture (scanned film, photograph, screen); it is not read.",
    Reason.LOCALIZER_ONLY: "The CT holds localizer (scout) images only.",
    Reason.DERIVED_ONLY: "The CT holds derived or secondary images only (for example MIP or MPR).",
    Reason.TOO_FEW_SLICES: "The CT series has too few slices for a volume.",
    Reason.NOT_AXIAL: "The CT slices are not axial.",
    Reason.MULTIFRAME: "Multi-frame images other than enhanced CT are not read; send single-frame images.",
    Reason.MISSING_SLICES: "Slices of the CT volume are missing.",
    Reason.CONFLICTING_DUPLICATES: "Different slices of one CT series lie at the same position.",
    Reason.VARIABLE_GEOMETRY: "The CT slices differ in size, spacing, orientation or frame of reference.",
    Reason.SLICES_TOO_THICK: "The CT slices are further apart than the model accepts.",
    Reason.INVALID_GEOMETRY: "Position, orientation or pixel spacing is absent or impossible.",
    Reason.INVALID_PIXEL_DESCRIPTION: "The description of the pixels contradicts itself or is out of range.",
    Reason.INVALID_RESCALE: "Rescale slope or intercept is absent, zero or not a number; values are not in HU.",
    Reason.UNREADABLE_PIXELS: "The pixel data could not be decoded.",
    Reason.DECODER_FAILED: "The decoder of the pixels crashed, hung or took too much memory; the images were left alone.",
    Reason.BLANK_IMAGE: "The image is blank: it holds a single grey value.",
    Reason.ROTATED_IMAGE: "The radiograph lies on its side or upside down; the model reads upright images only.",
    Reason.IMAGE_TOO_SMALL: "The radiograph has too few pixels to be read.",
    Reason.NOT_A_FRONTAL_CHEST: "The picture does not look like a frontal chest radiograph.",
    Reason.IMAGE_INVERTED: "The radiograph looks inverted: bright where it should be dark.",
    Reason.IMAGE_CLIPPED: "A part of the lungs looks cut off by the edge of the radiograph.",
    Reason.IMAGE_OF_A_CHILD: "The model reads the radiographs of adults only.",
    Reason.IMAGE_OF_AN_ANIMAL: "The patient is stated to be an animal; the models read images of people only.",
    Reason.UNSUITABLE_IMAGE: "The radiograph is not fit to be read, by the model that judges its quality.",
    Reason.UNFAMILIAR_IMAGE: "The images are unlike those that the model was made with.",
    Reason.NO_LUNG_FOUND: "No lung was found in the images.",
    Reason.NO_MODEL: "No model bundle is installed for this kind of study.",
    Reason.OBJECT_MALFORMED: "The object is not a readable DICOM data set or lacks a required identifier.",
    Reason.OBJECT_MISMATCH: "The object differs from what the sender announced (SOP class or instance UID).",
    Reason.CHANGED_DUPLICATE: "An image came again with other content; the first was kept, the second set aside.",
    Reason.OWN_RESULT: "The object is one of our own results; it is never assessed again.",
    Reason.FOREIGN_RESULT: "The object is a result of another system (SEG, SR, SC); it is not an input.",
    Reason.IMAGES_DELETED: "Images of the study were deleted after its result was delivered; send the whole study again.",
    Reason.PEER_UNREACHABLE: "The PACS or other receiver did not answer.",
    Reason.PEER_REFUSED: "The PACS or other receiver refused it.",
    Reason.NOT_COMMITTED: "The PACS took the objects but has not confirmed that it keeps them.",
    Reason.OUT_OF_SPACE: "There is no room left on the disk.",
    Reason.STUDY_TOO_LARGE: "The study brings more images or bytes than one study may; what came beyond was refused.",
    Reason.ENGINE_FAILED: "The model could not be run.",
    Reason.INTERNAL_ERROR: "An error in this service; the log names it.",
}


class FirstlookError(Exception):
    """Base of every error of ours.

    reason: the code; detail: what was found and what is accepted, free of patient data.
    """

    dimse_status = 0x0110  # Processing failure, PS3.7 C.5.21

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail


class Rejected(FirstlookError):
    """The input can never be used as it is; trying again changes nothing."""


class BadInstance(Rejected):
    """An object that C-STORE refuses: 0xC000, cannot understand (PS3.4 B.2.3)."""

    dimse_status = 0xC000


class MismatchedInstance(BadInstance):
    """Data set and command or presentation context disagree: 0xA900 (PS3.4 B.2.3)."""

    dimse_status = 0xA900


class UnusableStudy(Rejected):
    """A study, series or image that no model may read."""


class DecoderFailed(UnusableStudy):
    """Pixels that made their decoder crash, hang or take more memory than it may."""


class RefusedByPeer(Rejected):
    """A peer that will never take this object (context rejected, or a failure status that is final)."""


class Unavailable(FirstlookError):
    """Something is away for now; the job is tried again with back-off."""


class PeerUnavailable(Unavailable):
    """A peer that does not answer, aborts or is out of resources."""


class OutOfSpace(Unavailable):
    """No room on the disk: 0xA700, out of resources (PS3.4 B.2.3)."""

    dimse_status = 0xA700


class EngineUnavailable(Unavailable):
    """A model session that failed to run."""


class Defect(FirstlookError):
    """Our own fault."""
