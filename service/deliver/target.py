"""What every place that results go to can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from service.domain.commitment import Proof


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


class Prover(Protocol):
    """Asks a target whether it keeps what it took.

    proof: COMMIT or CFIND; within_s: after so long, seconds, an answer is not waited for any more.
    """

    proof: Proof
    within_s: float

    def request(self, transaction_uid: str, objects: Mapping[str, str], answered: Callable[[], bool]) -> None:
        """Request storage commitment of objects (SOP Class UID by SOP Instance UID); the answer is a report.

        Raises: PeerUnavailable; RefusedByPeer.
        """

    def find(self, paths: Mapping[str, Path]) -> set[str]:
        """Return which of these objects (file by SOP Instance UID) the target lists. Raises as `request`."""


@dataclass(frozen=True)
class Outlet:
    """A target as the line uses it. kinds: of objects that it takes; prover: None when its answer is proof enough."""

    target: Target
    kinds: frozenset[str]
    prover: Prover | None = None
