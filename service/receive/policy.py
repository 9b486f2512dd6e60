"""Who may send what: association policy and the table of presentation contexts."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import StrEnum

from pydicom.uid import (
    JPEG2000,
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    EnhancedCTImageStorage,
    EnhancedSRStorage,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    KeyObjectSelectionDocumentStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification

UNCOMPRESSED: tuple[str, ...] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
COMPRESSED: tuple[str, ...] = (
    JPEGBaseline8Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless, JPEG2000Lossless, JPEG2000,
    RLELossless,
)
IMAGE_CLASSES: tuple[str, ...] = (
    ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation, CTImageStorage, EnhancedCTImageStorage,
)
RESULT_CLASSES: tuple[str, ...] = (
    SegmentationStorage, ComprehensiveSRStorage, Comprehensive3DSRStorage, EnhancedSRStorage, BasicTextSRStorage,
    SecondaryCaptureImageStorage, GrayscaleSoftcopyPresentationStateStorage, KeyObjectSelectionDocumentStorage,
)


class Refusal(StrEnum):
    """Why an association is rejected; the value is what the log says."""

    CALLED_AE_TITLE = "called_ae_title"
    CALLING_AE_TITLE = "calling_ae_title"
    ADDRESS = "address"
    STOPPING = "stopping"
    OUT_OF_SPACE = "out_of_space"

    @property
    def answer(self) -> tuple[int, int, int]:
        """Return (result, source, reason) of A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
        return _ANSWERS[self]


_ANSWERS = {
    Refusal.CALLED_AE_TITLE: (1, 1, 7),
    Refusal.CALLING_AE_TITLE: (1, 1, 3),
    Refusal.ADDRESS: (1, 1, 3),
    Refusal.STOPPING: (2, 3, 1),
    Refusal.OUT_OF_SPACE: (2, 3, 2),  # transient, local limit exceeded: the sender is to try again later
}


@dataclass(frozen=True)
class Peer:
    """A sender that may call: its AE title, and the network it must call from ("" any; an address or CIDR)."""

    ae_title: str
    network: str = ""

    def admits(self, address: str) -> bool:
        """Tell whether an IP address lies in the network."""
        if not self.network:
            return True
        caller = ipaddress.ip_address(address)
        if isinstance(caller, ipaddress.IPv6Address) and caller.ipv4_mapped is not None:
            caller = caller.ipv4_mapped
        return caller in ipaddress.ip_network(self.network, strict=False)


@dataclass(frozen=True)
class Policy:
    """What the listener needs to know; sizes in bytes, times in seconds."""

    ae_title: str = "FIRSTLOOK"
    host: str = "127.0.0.1"
    port: int = 0
    any_calling_ae: bool = False
    peers: tuple[Peer, ...] = ()
    max_associations: int = 64
    max_pdu_bytes: int = 1_048_576
    max_object_bytes: int = 2_147_483_648
    association_timeout_s: float = 5.0
    idle_timeout_s: float = 60.0
    min_free_bytes: int = 0
    max_study_images: int = 10_000
    max_study_bytes: int = 5_000_000_000
    fast_path: bool = True

    def refusal(self, called: str, calling: str, address: str) -> Refusal | None:
        """Return why an association is rejected, or None: it is welcome. AE titles compare without outer spaces.

        A peer listed more than once may call from any of its networks.
        """
        if called.strip() != self.ae_title.strip():
            return Refusal.CALLED_AE_TITLE
        if self.any_calling_ae:
            return None
        known = [peer for peer in self.peers if peer.ae_title.strip() == calling.strip()]
        if not known:
            return Refusal.CALLING_AE_TITLE
        return None if any(peer.admits(address) for peer in known) else Refusal.ADDRESS


def contexts() -> list[PresentationContext]:
    """Return the presentation contexts that are accepted; neither deflated nor big endian.

    The list is short on purpose: its length is paid at every association.
    """
    images = [build_context(uid, [*UNCOMPRESSED, *COMPRESSED]) for uid in IMAGE_CLASSES]
    results = [build_context(uid, [*UNCOMPRESSED, *COMPRESSED]) for uid in RESULT_CLASSES]
    reports = build_context(StorageCommitmentPushModel, list(UNCOMPRESSED))
    reports.scu_role = reports.scp_role = True  # the peer that reports is the SCP, though it calls (PS3.4 J.3.3)
    return [build_context(Verification, list(UNCOMPRESSED)), reports, *images, *results]
