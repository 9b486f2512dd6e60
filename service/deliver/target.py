"""What every place that results go to can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from service.domain.commitment import Proof


@dataclass(frozen=True)
class Parcel:
    """What goes to one target: the files of the objects that it takes, in the order made, and what else it may tell.

    report: the file of the SR; None where none was made. urgency: of the reading, as the worklist has it. revision: of the
    result, from 1.
    """

    paths: tuple[Path, ...]
    report: Path | None = None
    urgency: str = "routine"
    revision: int = 1


class Target(Protocol):
    """A place that takes results. Delivering the same again must do no harm there."""

    @property
    def name(self) -> str:
        """Short name, for metrics and the worklist."""

    def deliver(self, parcel: Parcel) -> list[str]:
        """Deliver a result and return the SOP Instance UIDs of its objects, in order, once the target has all of it.

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
