"""What every place that results go to can do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class Target(Protocol):
    """A place that takes result objects. Sending the same object again must do no harm there."""

    @property
    def name(self) -> str:
        """Short name, for metrics and the worklist."""

    def send(self, paths: Sequence[Path]) -> list[str]:
        """Send DICOM files and return their SOP Instance UIDs, in order, once all of them are stored.

        Raises: PeerUnavailable when it may work later; RefusedByPeer when it never will; Defect for a file that is
        not there or not DICOM.
        """

    def echo(self) -> None:
        """Ask whether the target answers. Raises: PeerUnavailable or RefusedByPeer."""
