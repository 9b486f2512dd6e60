"""What the line needs: handed in by `service.app`, the only place that makes these objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sqlmodel import Session

from service.assemble.geometry import GeometryRules
from service.audit.trail import Trail, silent
from service.deliver.retrieval import Archive
from service.deliver.target import Outlet
from service.domain.manifest import Manifest
from service.domain.patient import PriorRules
from service.domain.room import SPARE, Room
from service.domain.study import Kind
from service.domain.urgency import Urgency
from service.errors import Reason, UnusableStudy
from service.infer.catalogue import Catalogue
from service.infer.watched import WatchedEngine
from service.metrics import Metrics
from service.pipeline.compared import Comparison
from service.pipeline.frames import Frames
from service.pipeline.shelf import Shelf
from service.prepare.codestream import FrameDecoder
from service.receive.fetched import Fetched
from service.report.build import Style
from service.store.activations import BESIDE, switched_to
from service.store.database import Database
from service.store.files import Files
from service.traces import Silent, Tracing
from service.triage.queue import Queue
from service.triage.rules import Rule
from service.triage.turns import Turns


@dataclass(frozen=True)
class Line:
    """The parts that `admit` and `run` work with.

    bundles: the active bundles of each kind, the leading one first; shadows: those that look beside them, as set; cxr_gate,
    cxr_lungs: those that judge radiographs and find their lung fields, "" for none; comparison: of the pixels of
    duplicates; frames: of enhanced CT; decoder: of compressed pixels; most_decoded_bytes: of all images of a study, as
    float32; longest_wait_s: after which a study is complete in any case; turns: of the looks under way; rules: of urgency
    on arrival; target_s: turnaround of an urgency, seconds; clock: Unix time, seconds; trail: is told of results delivered;
    shelf: what is known already of studies to be looked at; room: for volumes; first_look_mm: distance
    of the slices of a first look at a CT, 0: there is none; archives: that earlier studies are fetched from; priors: which;
    fetched: keeps what comes by C-GET, where there is an archive.
    """

    database: Database
    queue: Queue
    turns: Turns
    metrics: Metrics
    clock: Callable[[], float]
    spool_dir: Files
    results_dir: Files
    catalogue: Catalogue
    engine: WatchedEngine
    bundles: Mapping[Kind, tuple[str, ...]]
    shadows: tuple[str, ...]
    cxr_gate: str
    cxr_lungs: str
    comparison: Comparison
    frames: Frames
    decoder: FrameDecoder
    most_decoded_bytes: int
    geometry: GeometryRules
    longest_wait_s: float
    rules: tuple[Rule, ...]
    target_s: Callable[[Urgency], float]
    style: Style
    report_refusals: bool
    targets: Mapping[str, Outlet]
    trail: Trail = field(default_factory=silent)
    tracing: Tracing = field(default_factory=Silent)
    shelf: Shelf = field(default_factory=Shelf)
    room: Room = SPARE
    first_look_mm: float = 0.0
    archives: Mapping[str, Archive] = field(default_factory=dict)
    priors: PriorRules = field(default_factory=PriorRules)
    fetched: Fetched | None = None

    def bundles_for(self, kind: Kind) -> tuple[Manifest, ...]:
        """Return the active bundles for a kind of study, the leading one first: as last switched, else as set.

        Raises: UnusableStudy (no_model).
        """
        with self.database.reading() as session:
            names = self.active(session, kind)
        if not names:
            raise UnusableStudy(Reason.NO_MODEL, f"no bundle is set for {kind}")
        return tuple(self.catalogue.get(name) for name in names)

    def active(self, session: Session, kind: Kind) -> tuple[str, ...]:
        """Return the names of the active bundles for a kind of study, the leading one first."""
        switched = switched_to(session, kind.value)
        return self.bundles.get(kind, ()) if switched is None else switched

    def beside(self, session: Session) -> tuple[str, ...]:
        """Return the names of the bundles that look beside the active ones: as last switched, else as set."""
        switched = switched_to(session, BESIDE)
        return self.shadows if switched is None else switched

    def named(self, name: str) -> Manifest | None:
        """Return a bundle by its name, None for "". Raises: UnusableStudy (no_model)."""
        return self.catalogue.get(name) if name else None
