"""An association of ours whose answers reach the one who asked.

The thread of an association in pynetdicom 3.0.4 takes messages of the peer from a queue, and stands aside while a request
of ours waits there for its answer. It says that it stands aside before it looks whether it has to: between the two a
request may begin, and the thread then takes the answer away ("Received unexpected C-STORE service message"); the caller
waits until its time-out. Here a request begins once the thread really stands.

Relied on in pynetdicom 3.0.4: Association._reactor_checkpoint, waited on by its thread, cleared before a request and set
after it.
"""

from __future__ import annotations

import threading

from pynetdicom.association import Association

_LOOK_S = 0.05  # whether the thread still lives


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
    return association
