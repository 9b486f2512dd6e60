"""From the settings to the listener: who may call, how much of everything, and the port with TLS."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from service.pipeline.correcting import FOLDER
from service.receive.policy import Peer, Policy
from service.receive.returned import Returned
from service.receive.server import Tls
from service.sections import Receive
from service.store.corrections import Corrections
from service.store.files import Below, Files
from service.tls.contexts import server_context
from service.tls.renewal import Renewed


def policy_of(receive: Receive) -> Policy:
    """Return the policy that the table [receive] describes."""
    return Policy(
        ae_title=receive.ae_title, host=receive.host, port=receive.port, plain=receive.plain,
        any_calling_ae=receive.any_calling_ae, peers=tuple(
            Peer(p.ae_title, p.address, p.certificate_fingerprint, p.certificate_name.lower()) for p in receive.peers),
        close_unlisted_addresses=receive.close_unlisted_addresses, max_associations=receive.max_associations,
        max_associations_per_ae=receive.max_associations_per_ae,
        max_associations_per_address=receive.max_associations_per_address, max_waiting=receive.max_waiting,
        max_waiting_per_address=receive.max_waiting_per_address,
        max_pdu_bytes=receive.max_pdu_bytes, max_object_bytes=receive.max_object_bytes,
        association_timeout_s=receive.association_timeout_s, idle_timeout_s=receive.idle_timeout_s,
        min_free_bytes=receive.min_free_bytes, fast_path=receive.fast_path, ready_bytes=receive.ready_mib << 20,
        max_study_images=receive.max_study_images, max_study_bytes=receive.max_study_bytes)


def tls_of(receive: Receive, use: Callable[[Renewed], None]) -> Tls | None:
    """Return the port with TLS, if there is one; use: told of its certificates.  Raises: UnusableCertificate."""
    wanted = receive.tls
    if not wanted.enabled:
        return None
    renewed = Renewed(wanted.files, partial(server_context, demand=wanted.client_certificate))
    use(renewed)
    return Tls(renewed, wanted.port, wanted.handshake_timeout_s)


def returned_of(receive: Receive, results: Files, corrections: Corrections) -> Returned | None:
    """Return what keeps objects that others send back, if they are to be kept. results: the files of our results."""
    if not receive.corrections:
        return None
    return Returned(Below(results, FOLDER), receive.min_free_bytes, corrections)


def where(receive: Receive) -> str:
    """Name the settings that say where the listener listens, for the sentence that it cannot."""
    ports = [("receive.port", receive.port)] if receive.plain else []
    ports += [("receive.tls.port", receive.tls.port)] if receive.tls.enabled else []
    return ", ".join(f"{name} {value}" for name, value in [("receive.host", receive.host), *ports])
