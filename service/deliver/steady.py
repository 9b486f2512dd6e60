"""An association of ours whose answers reach the one who asked.

The thread of an association in pynetdicom 3.0.4 takes messages of the peer from a queue, and stands aside while a request
of ours waits there for its answer. It says that it stands aside before it looks whether it has to: between the two a
request may begin, and the thread then takes the answer away ("Received unexpected C-STORE service message"); the caller
waits until its time-out. Here a request begins once the thread really stands.

A report of the peer may also meet our release: its answer then comes when the standard knows no data of ours any more
(PS3.8 table 9-10), and pynetdicom lets the thread of the association die of that. Here the answer is dropped.

Relied on in pynetdicom 3.0.4: Association._reactor_checkpoint, waited on by its thread, cleared before a request and set
after it; StateMachine.do_action, current_state and TRANSITION_TABLE, DULServiceProvider.to_provider_queue.
"""

from __future__ import annotations

import queue
import threading
from contextlib import suppress

from pynetdicom.association import Association
from pynetdicom.fsm import TRANSITION_TABLE

_LOOK_S = 0.05  # whether the thread still lives
_DATA_REQUEST = "Evt9"  # PS3.8 9.2.1: we want to send data


class Checkpoint(threading.Event):
    """An event that is cleared only when the thread it stops stands at it, or has ended."""

    def __init__(self, stops: threading.Thread) -> None:
        super().__init__()
        self._stops, self._changed = stops, threading.Condition()
        self._is_open, self._stands = True, False

    def is_set(self) -> bool:
        """Tell whether the thread may pass."""
        return self._is_open

    def set(self) -> None:
        """Let the thread go on."""
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    def clear(self) -> None:
        """Stop the thread, and return when it stands. Called by that thread itself, return at once."""
        with self._changed:
            self._is_open = False
            while not self._stands and self._stops.is_alive() and threading.current_thread() is not self._stops:
                self._changed.wait(_LOOK_S)

    def wait(self, timeout: float | None = None) -> bool:
        """Stand here until the way is open; called by the thread that is to be stopped."""
        with self._changed:
            if threading.current_thread() is not self._stops:
                return self._changed.wait_for(self.is_set, timeout)
            self._stands = True
            self._changed.notify_all()
            passed = self._changed.wait_for(self.is_set, timeout)
            self._stands = False
            return passed


def steady(association: Association) -> Association:
    """Return the same association, with its requests kept apart from its thread; before the first request."""
    association._reactor_checkpoint = Checkpoint(association)
    machine = association.dul.state_machine
    act = machine.do_action

    def do_action(event: str) -> None:
        """Act upon an event; data that can no longer be sent is let go of."""
        if event == _DATA_REQUEST and (event, machine.current_state) not in TRANSITION_TABLE:
            with suppress(queue.Empty):
                machine.dul.to_provider_queue.get_nowait()
            return
        act(event)

    machine.do_action = do_action
    return association
