"""The connection of an association with the fast path: its bytes come through an inflow, for pynetdicom too."""

from __future__ import annotations

import select
import socket

from pynetdicom.association import Association

from service.receive.inflow import Inflow
from service.receive.machine import CONNECTION_CLOSED
from service.receive.policy import Policy
from service.receive.transport import BoundedSocket


class FastSocket(BoundedSocket):
    """The connection of one association, read through an inflow."""

    def __init__(self, association: Association, connection: socket.socket, policy: Policy) -> None:
        super().__init__(association, connection, policy)
        self.inflow = Inflow(connection)

    @property
    def ready(self) -> bool:
        """Whether there is something to read, or the peer has closed."""
        if self.socket is None or not self._is_connected:
            return False
        poller = select.poll()
        try:
            if self.inflow.has_more:
                return True
            poller.register(self.socket, select.POLLIN)
        except (OSError, ValueError):
            self.event_queue.put(CONNECTION_CLOSED)
            return False
        return bool(poller.poll(0))

    def _receive_some(self, view: memoryview, deadline: float) -> int:
        if not self.inflow.held_bytes:
            return super()._receive_some(view, deadline)
        return self.inflow.pour(view, deadline)
