"""pynetdicom's two threads of an association, waiting for something to happen instead of looking every millisecond.

pynetdicom 3.0.4 polls: its upper layer sleeps 1 ms whenever a round finds nothing to do, and its association thread
1 ms on every round; twenty idle associations burn a whole core. Here the upper layer waits in `poll` for the peer or
for a ring of the bell, the association thread at the gate that it passes on each round. Both rounds stay pynetdicom's;
what puts something in a queue rings. Nobody waits longer than LONGEST_S, so that a ring that is missed costs no more.

Relied on: DULServiceProvider._run_loop_delay (how long an idle round sleeps), Association._reactor_checkpoint (waited
for on each round), the four queues, _kill_thread and _kill, the two timers. A test holds these to version 3.0.4.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider

from service.receive.inflow import wait_readable

LONGEST_S = 1.0
_SHORTEST_S = 0.001


class RingingQueue(queue.Queue[Any]):
    """A queue that rings after each thing put in."""

    def __init__(self, ring: Callable[[], None]) -> None:
        super().__init__()
        self._ring = ring

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Put an item in, then ring."""
        super().put(item, block, timeout)
        self._ring()


class Gate(threading.Event):
    """Where the association thread waits on each round; set and clear are pynetdicom's, to hold the thread back.

    pending: tells whether there is something to do; longest_s: how long to wait at most.
    """

    def __init__(self, pending: Callable[[], bool], longest_s: Callable[[], float]) -> None:
        super().__init__()
        self._pending, self._longest_s = pending, longest_s
        self._rung = threading.Event()

    def ring(self) -> None:
        """Let the association thread look at once."""
        self._rung.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until there is something to do or the time is up, then as long as the gate is closed."""
        self._rung.clear()
        if not self._pending():
            self._rung.wait(self._longest_s())
        return super().wait(timeout)


class WakefulProvider(DULServiceProvider):  # type: ignore[misc]
    """The upper layer of one association. told: called when it has something for the association thread."""

    def __init__(self, association: Association, told: Callable[[], None]) -> None:
        self._bell, self._bell_pull = socket.socketpair()
        self._bell.setblocking(False)
        self._bell_pull.setblocking(False)
        super().__init__(association)
        self.daemon = True
        self.event_queue = RingingQueue(self.ring)
        self.to_provider_queue = RingingQueue(self.ring)
        self.to_user_queue = RingingQueue(told)

    @property
    def _run_loop_delay(self) -> float:
        """How long pynetdicom is to sleep now: not at all, for the wait is over when this returns."""
        if threading.current_thread() is self:
            self._wait()
        return 0.0

    @_run_loop_delay.setter
    def _run_loop_delay(self, seconds: float) -> None:
        """Pynetdicom sets its 1 ms; there is no such thing here."""

    def ring(self) -> None:
        """Let the upper layer look at once; harmless when it has ended."""
        try:
            self._bell_pull.send(b"\0")
        except OSError:
            return  # rung often enough, or ended

    def kill_dul(self) -> None:
        """End the thread."""
        super().kill_dul()
        self.ring()

    def stop_dul(self) -> bool:
        """End the thread if the association is over, and wait for that; tell whether it has ended."""
        if self.state_machine.current_state != "Sta1":
            return False
        self.kill_dul()
        if self.is_alive():
            self.join()
        return True

    def run_reactor(self) -> None:
        """Run pynetdicom's rounds; at the end close what was opened here."""
        try:
            super().run_reactor()
        finally:
            self.ended()
            self._bell.close()
            self._bell_pull.close()
            self.to_user_queue.put(None)  # whoever waits for an association request that never came need not wait on

    def ended(self) -> None:
        """Do what is to be done when the upper layer has ended."""

    def holds(self) -> bool:
        """Tell whether something was received that nobody has read, so that there is nothing to wait for."""
        return False

    def _wait(self) -> None:
        if self._kill_thread or self.holds() or not self.event_queue.empty() or not self.to_provider_queue.empty():
            return
        left_s = min(LONGEST_S, self.artim_timer.remaining, self._idle_timer.remaining)
        connection = self.socket.socket if self.socket is not None else None
        if connection is None or connection.fileno() < 0:
            time.sleep(_SHORTEST_S)  # between the end of the connection and the end of the thread
            return
        wait_readable(connection, max(left_s, _SHORTEST_S), self._bell)
        try:
            self._bell.recv(4096)
        except BlockingIOError:
            return


class WakefulAssociation(Association):  # type: ignore[misc]
    """An association whose threads wait without polling. `provider` is made of it and of what tells its thread."""

    def __init__(self, entity: Any, mode: str,
                 provider: Callable[[Association, Callable[[], None]], WakefulProvider]) -> None:
        super().__init__(entity, mode)
        gate = Gate(self._pending, self._longest_s)
        gate.set()
        self._reactor_checkpoint = gate
        self.told = gate.ring
        self.dul = provider(self, gate.ring)
        self.acse_timeout, self.network_timeout = entity.acse_timeout, entity.network_timeout

    def _pending(self) -> bool:
        dul = self.dul
        return (self._kill or not self.dimse.msg_queue.empty() or not dul.to_user_queue.empty()
                or not dul.is_alive() or dul.idle_timer_expired())

    def _longest_s(self) -> float:
        return max(_SHORTEST_S, min(LONGEST_S, float(self.dul._idle_timer.remaining)))
