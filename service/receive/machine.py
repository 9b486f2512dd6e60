"""The state machine of PS3.8 9.2, so that the end of an association never ends in an error of its thread.

Both sides may end an association at once: the peer's nonsense, abort or close takes the machine to a state of closing,
where the standard knows no request of our own side any more (PS3.8 table 9-10), while an answer, an abort or a release
of ours is under way to it. pynetdicom 3.0.4 raises an error for such a request, of which the thread dies, and the
connection stays open until somebody collects the garbage. Here the request is dropped. Whatever else cannot be acted
upon ends the association as if the connection had broken.

Relied on in pynetdicom 3.0.4: DULServiceProvider.to_provider_queue and kill_dul, StateMachine.do_action, TRANSITION_TABLE.
"""

from __future__ import annotations

import queue
import struct
from contextlib import suppress

from pydicom.errors import BytesLengthException
from pynetdicom.fsm import TRANSITION_TABLE, InvalidEventError, StateMachine

from service import logs

CONNECTION_CLOSED = "Evt17"  # PS3.8 9.2.1
INVALID_PDU = "Evt19"  # unrecognized or invalid PDU received
UNREADABLE = (ArithmeticError, AttributeError, BytesLengthException, EOFError, LookupError, NotImplementedError,
              RecursionError, TypeError, ValueError, struct.error)
_OWN_REQUESTS = frozenset(("Evt1", "Evt7", "Evt8", "Evt9", "Evt11", "Evt14", "Evt15"))
_CLOSING = frozenset(("Sta1", "Sta13"))
_log = logs.get("receive.machine")


class ClosingStateMachine(StateMachine):  # type: ignore[misc]
    """The state machine of one association, run by the thread of its upper layer."""

    def do_action(self, event: str) -> None:
        """Act upon an event; raises nothing that a peer or a race could cause."""
        if event in _OWN_REQUESTS and self.current_state in _CLOSING and not self._knows(event):
            self._drop_requests()
            return
        try:
            super().do_action(event)
        except (*UNREADABLE, InvalidEventError, queue.Empty) as error:
            _log.warning("an event cannot be acted upon; the association ends", extra={
                "fsm_event": event, "fsm_state": self.current_state, "error": type(error).__name__})
            if self._knows(CONNECTION_CLOSED):
                super().do_action(CONNECTION_CLOSED)
            self.dul.kill_dul()

    def _knows(self, event: str) -> bool:
        return (event, self.current_state) in TRANSITION_TABLE

    def _drop_requests(self) -> None:
        """Let go of what our side still wants sent: as long as it waits, nobody looks at the connection."""
        with suppress(queue.Empty):
            while True:
                self.dul.to_provider_queue.get_nowait()
