"""Results to a PACS by C-STORE (PS3.4 Annex B), all objects of a result in one association."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import Verification

from service import logs
from service.deliver.connection import Entity
from service.deliver.objects import Object, read_object
from service.deliver.steady import steady
from service.deliver.target import Parcel
from service.errors import Defect, FirstlookError, PeerUnavailable, Reason, RefusedByPeer
from service.tls.calling import Calling
from service.tls.handshake import Trouble

log = logs.get("deliver.cstore")

Handler = tuple[Any, Callable[[Any], Any]]
Roles = Sequence[Any]  # of pynetdicom's SCP_SCU_RoleSelectionNegotiation

SUCCESS = 0x0000
WARNINGS = range(0xB000, 0xC000)  # stored, with a remark: coercion, elements discarded (PS3.4 B.2.3)
OUT_OF_RESOURCES = range(0xA700, 0xA800)
PASSING = frozenset({0x0110, 0x0213})  # processing failure, resource limitation (PS3.7 Annex C): may work later


class CStoreTarget:
    """A PACS that takes results by C-STORE.

    timeout_s: for connecting, for the answer to the association request and for each response, seconds each.
    transfer_syntax: auto offers an object's own one and, without compressed pixels, implicit VR; explicit and implicit
    offer only that for objects without compressed pixels. calling: how it is called with TLS; None: without.
    """

    def __init__(
        self, name: str, ae_title: str, host: str, port: int, calling_ae_title: str, timeout_s: float = 30.0,
        transfer_syntax: str = "auto", calling: Calling | None = None,
    ) -> None:
        self.name = name
        self.ae_title = ae_title
        self.host = host
        self.port = port
        self.calling_ae_title = calling_ae_title
        self.timeout_s = timeout_s
        self.transfer_syntax = transfer_syntax
        self._calling = calling

    def deliver(self, parcel: Parcel) -> list[str]:
        """Send the objects of a result, as `send` does."""
        return self.send(parcel.paths)

    def send(self, paths: Sequence[Path]) -> list[str]:
        """Send all files in one association and return their SOP Instance UIDs once all are stored.

        A warning status (0xBxxx) counts as stored. Raises: RefusedByPeer when the peer takes no such class or answers
        with a final failure; PeerUnavailable when it is away, out of resources, aborts or does not answer; Defect for
        a file of ours that cannot be read.
        """
        objects = [read_object(path) for path in paths]
        if not objects:
            return []
        contexts = [
            build_context(sop_class, offered)
            for sop_class, offered in dict.fromkeys(
                (o.sop_class, syntax) for o in objects for syntax in self._syntaxes(o))
        ]
        with self.association(contexts) as association:
            self._require_accepted(association, objects)
            for number, item in enumerate(objects, 1):
                self._store(association, item, number)
        return [o.sop_instance for o in objects]

    def echo(self) -> None:
        """Send a C-ECHO. Raises: PeerUnavailable or RefusedByPeer."""
        with self.association([build_context(Verification)]) as association:
            self.judge(self.status(association.send_c_echo()), "C-ECHO")

    def _store(self, association: Association, item: Object, number: int) -> None:
        if not association.is_established:
            raise self.unavailable("the association ended before all objects were sent")
        try:
            answer = association.send_c_store(item.path, msg_id=number % 65535 + 1)
        except RuntimeError as error:  # the peer ended the association since the line above
            raise self.unavailable("the association ended before all objects were sent") from error
        except (ValueError, AttributeError) as error:
            raise Defect(Reason.INTERNAL_ERROR, "one of our objects could not be encoded for sending") from error
        status = self.status(answer)
        log.info("object sent", extra={
            "target": self.name, "sop_instance_uid": item.sop_instance, "status": f"0x{status:04X}"})
        self.judge(status, item.sop_class.name)

    def status(self, answer: object) -> int:
        """Return the DIMSE status; an answer without one means a time-out, an abort or nonsense."""
        status = getattr(answer, "Status", None)
        if status is None:
            raise self.unavailable(f"no valid response within {self.timeout_s:g} s, or the association was aborted")
        return int(status)

    def judge(self, status: int, what: str) -> None:
        """Return when a status says that it is done. Raises: PeerUnavailable or RefusedByPeer, by the kind of status."""
        if status == SUCCESS or status in WARNINGS:
            return
        if status in OUT_OF_RESOURCES or status in PASSING:
            raise self.unavailable(f"status 0x{status:04X} for {what}")
        raise RefusedByPeer(Reason.PEER_REFUSED, f"{self.name} answered status 0x{status:04X} for {what}")

    def _require_accepted(self, association: Association, objects: Sequence[Object]) -> None:
        """Refuse before anything is sent when the peer takes any object in none of its syntaxes."""
        accepted = {(str(c.abstract_syntax), str(c.transfer_syntax[0])) for c in association.accepted_contexts}
        for item in objects:
            if not any((str(item.sop_class), str(syntax)) in accepted for syntax in self._syntaxes(item)):
                raise self._not_accepted([item.sop_class])

    def _syntaxes(self, item: Object) -> tuple[UID, ...]:
        """Return what is offered for an object: one that is asked for, or its own and the default one (PS3.5 10.1)."""
        own = item.transfer_syntax
        if own.is_compressed:
            return (own,)
        asked = {"explicit": ExplicitVRLittleEndian, "implicit": ImplicitVRLittleEndian}.get(self.transfer_syntax)
        return (UID(asked),) if asked else tuple(dict.fromkeys((own, UID(ImplicitVRLittleEndian))))

    @contextmanager
    def association(self, contexts: list[PresentationContext], handlers: Sequence[Handler] = (),
                    roles: Roles = ()) -> Iterator[Association]:
        """Open one association and release it; abort it when an error passes through.

        handlers: of what the peer asks on it (pynetdicom events); roles: that we offer to take on it.
        Raises: PeerUnavailable, RefusedByPeer.
        """
        entity = Entity(self.calling_ae_title, self.timeout_s, self._calling)
        try:
            association = self._associate(entity, contexts, handlers, roles)
            try:
                yield association
            except FirstlookError:
                association.abort()
                raise
            association.release()
        finally:
            entity.close_sockets()

    def _associate(self, entity: Entity, contexts: list[PresentationContext],
                   handlers: Sequence[Handler], roles: Roles) -> Association:
        try:
            association = entity.associate(
                self.host, self.port, contexts=contexts, ae_title=self.ae_title, ext_neg=list(roles),
                evt_handlers=[(evt.EVT_CONN_OPEN, entity.limit_sending), *handlers])
        except OSError as error:  # the host name cannot be resolved
            raise self.unavailable("its address could not be found") from error
        if not association.is_established:
            raise self._why_not(association, contexts, entity.trouble)
        return steady(association)

    def _why_not(self, association: Association, contexts: list[PresentationContext],
                 trouble: Trouble | None) -> FirstlookError:
        if trouble is not None:
            named = f" than {self._calling.name!r}" if self._calling and trouble is Trouble.OTHER_NAME else ""
            return self.unavailable(f"TLS: {trouble.sentence}{named}")
        if association.is_rejected:
            answer = association.acceptor.primitive
            return self.unavailable(
                f"it rejected the association (result {answer.result}, source {answer.result_source}, "
                f"reason {answer.diagnostic}); it may not know the calling AE title {self.calling_ae_title!r}, or not "
                f"be called {self.ae_title!r}")
        if association.rejected_contexts and not association.accepted_contexts:
            return self._not_accepted([UID(c.abstract_syntax) for c in contexts])
        return self.unavailable("it could not be reached, did not answer or aborted")

    def _not_accepted(self, classes: Sequence[UID]) -> RefusedByPeer:
        names = ", ".join(dict.fromkeys(c.name for c in classes))
        return RefusedByPeer(Reason.PEER_REFUSED, f"{self.name} does not accept {names}")

    def unavailable(self, what: str) -> PeerUnavailable:
        """Return the error that says that this peer is away for now, and why."""
        return PeerUnavailable(Reason.PEER_UNREACHABLE, f"{self.name} ({self.host}:{self.port}): {what}")


class Called:
    """A peer that is called for something else than results, and how it is reached."""

    def __init__(self, peer: CStoreTarget) -> None:
        self._peer = peer

    @property
    def name(self) -> str:
        """The name of the peer, for the trace."""
        return self._peer.name

    @property
    def ae_title(self) -> str:
        """Its AE title."""
        return self._peer.ae_title

    def echo(self) -> None:
        """Send a C-ECHO. Raises: PeerUnavailable or RefusedByPeer."""
        self._peer.echo()
