"""Who may send what: association policy and the table of presentation contexts."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from pydicom.uid import (
    JPEG2000,
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
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

from service.tls.handshake import Shown

UNCOMPRESSED: tuple[str, ...] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
COMPRESSED: tuple[str, ...] = (
    JPEGBaseline8Bit, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEGLSNearLossless, JPEG2000Lossless, JPEG2000,
    RLELossless,
)
IMAGE_CLASSES: tuple[str, ...] = (
    ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation, DigitalXRayImageStorageForProcessing,
    CTImageStorage, EnhancedCTImageStorage,
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
    CERTIFICATE = "certificate"
    CONTEXTS = "presentation_contexts"
    STOPPING = "stopping"
    OUT_OF_SPACE = "out_of_space"
    TOO_MANY = "too_many_associations"
    TOO_MANY_OF_AE = "too_many_associations_of_ae"
    TOO_MANY_OF_ADDRESS = "too_many_associations_of_address"

    @property
    def answer(self) -> tuple[int, int, int]:
        """Return (result, source, reason) of A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
        return _ANSWERS[self]


_ANSWERS = {
    Refusal.CALLED_AE_TITLE: (1, 1, 7),
    Refusal.CALLING_AE_TITLE: (1, 1, 3),
    Refusal.ADDRESS: (1, 1, 3),
    Refusal.CERTIFICATE: (1, 1, 3),
    Refusal.CONTEXTS: (1, 2, 1),
    Refusal.STOPPING: (2, 3, 1),
    Refusal.OUT_OF_SPACE: (2, 3, 2),  # transient, local limit exceeded: the sender is to try again later
    Refusal.TOO_MANY: (2, 3, 2),
    Refusal.TOO_MANY_OF_AE: (2, 3, 2),
    Refusal.TOO_MANY_OF_ADDRESS: (2, 3, 2),
}


@dataclass(frozen=True)
class Peer:
    """A sender that may call: its AE title, and what it must come with.

    network: it must call from ("" any; an address or CIDR). fingerprint, name: of the certificate that it must show
    (SHA-256 in lower-case hexadecimal digits; a subject alternative name in lower case), "" any or none.
    """

    ae_title: str
    network: str = ""
    fingerprint: str = ""
    name: str = ""

    def admits(self, address: str) -> bool:
        """Tell whether an IP address lies in the network."""
        return not self.network or ipaddress.ip_address(plain_address(address)) in _network(self.network)

    def knows(self, certificate: Shown | None) -> bool:
        """Tell whether this is the certificate that the peer is bound to, if it is bound to one."""
        if certificate is None:
            return not self.fingerprint and not self.name
        return self.fingerprint in ("", certificate.fingerprint) and (not self.name or self.name in certificate.names)


@dataclass(frozen=True)
class Policy:
    """What the listener needs to know; sizes in bytes, times in seconds.

    max_waiting: connections that have not asked for an association yet, in all and of one address; a limit for each AE
    title or address of 0 is none. close_unlisted_addresses: no byte is read from where no peer may call from. plain: there
    is a port without TLS.
    """

    ae_title: str = "FIRSTLOOK"
    host: str = "127.0.0.1"
    port: int = 0
    plain: bool = True
    any_calling_ae: bool = False
    peers: tuple[Peer, ...] = ()
    max_associations: int = 64
    max_associations_per_ae: int = 0
    max_associations_per_address: int = 0
    max_waiting: int = 128
    max_waiting_per_address: int = 32
    close_unlisted_addresses: bool = True
    max_pdu_bytes: int = 1_048_576
    max_object_bytes: int = 2_147_483_648
    association_timeout_s: float = 5.0
    idle_timeout_s: float = 60.0
    min_free_bytes: int = 0
    max_study_images: int = 10_000
    max_study_bytes: int = 5_000_000_000
    fast_path: bool = True
    ready_bytes: int = 8_388_608

    def refusal(self, called: str, calling: str, address: str, certificate: Shown | None = None) -> Refusal | None:
        """Return why an association is rejected, or None: it is welcome. AE titles compare without outer spaces.

        A peer listed more than once may call from any of its networks, with the certificate that goes with it.
        """
        if called.strip() != self.ae_title.strip():
            return Refusal.CALLED_AE_TITLE
        if self.any_calling_ae:
            return None
        known = [peer for peer in self.peers if peer.ae_title.strip() == calling.strip()]
        if not known:
            return Refusal.CALLING_AE_TITLE
        here = [peer for peer in known if peer.admits(address)]
        if not here:
            return Refusal.ADDRESS
        return None if any(peer.knows(certificate) for peer in here) else Refusal.CERTIFICATE

    def lists(self, address: str) -> bool:
        """Tell whether some peer may call from an IP address; a policy that lists no peer closes no address."""
        return self.any_calling_ae or not self.peers or any(peer.admits(address) for peer in self.peers)


def are_well_numbered(context_ids: Sequence[int]) -> bool:
    """Tell whether these are presentation context IDs: one at least, each odd, 1 to 255, and there once (PS3.8 9.3.2.2)."""
    once = len(set(context_ids)) == len(context_ids)
    return bool(context_ids) and once and all(0 < number < 256 and number % 2 for number in context_ids)


def plain_address(address: str) -> str:
    """Return an IP address as it is written in IPv4, if it is one that only passes through an IPv6 socket."""
    if ":" not in address:
        return address
    found = ipaddress.IPv6Address(address.partition("%")[0])
    return str(found.ipv4_mapped or found)


@cache
def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text, strict=False)


def image_contexts() -> list[PresentationContext]:
    """Return what we propose for images that we ask for (C-GET): a context for each transfer syntax, so that the archive
    need not change any."""
    return [build_context(uid, [syntax]) for uid in IMAGE_CLASSES for syntax in (*UNCOMPRESSED, *COMPRESSED)]


def contexts() -> list[PresentationContext]:
    """Return the presentation contexts that are accepted; neither deflated nor big endian.

    The list is short on purpose: its length is paid at every association.
    """
    images = [build_context(uid, [*UNCOMPRESSED, *COMPRESSED]) for uid in IMAGE_CLASSES]
    results = [build_context(uid, [*UNCOMPRESSED, *COMPRESSED]) for uid in RESULT_CLASSES]
    reports = build_context(StorageCommitmentPushModel, list(UNCOMPRESSED))
    reports.scu_role = reports.scp_role = True  # the peer that reports is the SCP, though it calls (PS3.4 J.3.3)
    return [build_context(Verification, list(UNCOMPRESSED)), reports, *images, *results]
