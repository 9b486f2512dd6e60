"""HL7 v2 over MLLP: a message out, its acknowledgement in, by HL7 v2.5.1 2.9 (original and enhanced mode)."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

from service import logs
from service.deliver.narrative import narrative
from service.deliver.objects import read_object
from service.deliver.oru import Mapped, message
from service.deliver.target import Parcel
from service.errors import Defect, FirstlookError, PeerUnavailable, Reason, RefusedByPeer

_BEGIN, _END = b"\x0b", b"\x1c\r"
_MOST_BYTES = 1_048_576
_ACCEPTED = frozenset({"AA", "CA"})
_CODES = frozenset({"AA", "AE", "AR", "CA", "CE", "CR"})
_PASSING = frozenset({"206", "207"})  # HL7 table 0357: record locked, internal error
_FINAL = frozenset({"200", "201", "202", "203"})  # unsupported message type, event, processing id, version
log = logs.get("deliver.mllp")


@dataclass(frozen=True)
class Acknowledgement:
    """MSA-1, MSA-2 and the first error code (ERR-3, ERR-1 before v2.5) of an acknowledgement; "" where absent."""

    code: str
    control_id: str
    error: str


class MllpTarget:
    """A receiver of HL7 v2. context: for TLS, None for none; timeout_s: for the whole exchange; clock: Unix time."""

    def __init__(self, name: str, host: str, port: int, mapped: Mapped, clock: Callable[[], float],
                 timeout_s: float = 30.0, context: ssl.SSLContext | None = None) -> None:
        self.name = name
        self.host = host
        self.port = port
        self.timeout_s = timeout_s
        self._mapped = mapped
        self._clock = clock
        self._context = context

    def deliver(self, parcel: Parcel) -> list[str]:
        """Send the report as a message and return the UIDs of the objects once it is acknowledged (AA or CA).

        Raises: RefusedByPeer for AE, CE, and AR, CR of a kind that will not pass; PeerUnavailable for the others, and
        when there is no acknowledgement of this message; Defect.
        """
        if not parcel.paths:
            return []
        uids = [read_object(path).sop_instance for path in parcel.paths]
        if parcel.report is None:
            raise Defect(Reason.INTERNAL_ERROR, "a result without a report cannot be sent as HL7")
        control_id, text = message(
            narrative(parcel.report), self._mapped, parcel.urgency, parcel.revision, self._clock())
        answer = self._exchange(text)
        log.info("message sent", extra={"target": self.name, "control_id": control_id, "acknowledgement": answer.code})
        self._judge(answer, control_id)
        return uids

    def echo(self) -> None:
        """Connect and close again: HL7 has nothing to ask with. Raises: PeerUnavailable."""
        self._connect(time.monotonic() + self.timeout_s).close()

    def _judge(self, answer: Acknowledgement, control_id: str) -> None:
        if answer.control_id != control_id:
            raise self._unavailable("its acknowledgement is of another message")
        if answer.code not in _ACCEPTED:
            raise self._failure(answer)

    def _failure(self, answer: Acknowledgement) -> FirstlookError:
        """Return the error of a negative acknowledgement: a fault of content is final, a fault of the receiver passes."""
        told = f"{answer.code} {answer.error}".strip()
        content = answer.code in ("AE", "CE")
        if answer.error in _PASSING or (not content and answer.error not in _FINAL):
            return self._unavailable(f"it acknowledged with {told}")
        return RefusedByPeer(Reason.PEER_REFUSED, f"{self.name} acknowledged with {told}")

    def _exchange(self, text: bytes) -> Acknowledgement:
        deadline = time.monotonic() + self.timeout_s
        with self._connect(deadline) as connection:
            try:
                connection.sendall(_BEGIN + text + _END)
                received = self._receive(connection, deadline)
            except (TimeoutError, OSError) as error:
                raise self._unavailable(_why(error, self.timeout_s)) from error
        return self._read(received)

    def _connect(self, deadline: float) -> socket.socket:
        raw = None
        try:
            raw = socket.create_connection((self.host, self.port), self.timeout_s)
            raw.settimeout(max(0.001, deadline - time.monotonic()))
            return self._context.wrap_socket(raw, server_hostname=self.host) if self._context else raw
        except OSError as error:
            if raw is not None:
                raw.close()
            raise self._unavailable(_why(error, self.timeout_s)) from error

    def _receive(self, connection: socket.socket, deadline: float) -> bytes:
        received = bytearray()
        while not received.endswith(_END):
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            piece = connection.recv(65536)
            if not piece:
                raise self._unavailable("it closed the connection without an acknowledgement")
            received += piece
            if len(received) > _MOST_BYTES:
                raise self._unavailable("its acknowledgement does not end")
        return bytes(received)

    def _read(self, received: bytes) -> Acknowledgement:
        """Read an acknowledgement. Raises: PeerUnavailable when it is none."""
        text = received.strip(_BEGIN + _END).decode("latin-1")
        segments = text.replace("\n", "\r").split("\r")
        if not text.startswith("MSH") or len(text) < 9:
            raise self._unavailable("its answer is no HL7 message")
        bar, component = text[3], text[4]
        msa = next((s.split(bar) for s in segments if s.startswith(f"MSA{bar}")), [])
        err = next((s.split(bar) for s in segments if s.startswith(f"ERR{bar}")), [])
        if len(msa) < 3 or msa[1] not in _CODES:
            raise self._unavailable("its answer is no acknowledgement")
        code = err[3].split(component)[0] if len(err) > 3 else ""
        return Acknowledgement(msa[1], msa[2], code if code.isdigit() else "")

    def _unavailable(self, what: str) -> PeerUnavailable:
        return PeerUnavailable(Reason.PEER_UNREACHABLE, f"{self.name} ({self.host}:{self.port}): {what}")


def _why(error: OSError, timeout_s: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no acknowledgement within {timeout_s:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return "its certificate was not accepted"
    return f"it could not be reached or broke off ({type(error).__name__})"
