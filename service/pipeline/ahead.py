"""Work while images arrive: CT slices are decoded and read as they land, and looked at when they lie there whole.

All of it may be for nothing: another series may be chosen, the geometry refused, or more slices come. So it goes behind
every look of its urgency, is dropped at a chunk where one begins, and is bounded in memory. What it found waits on the
shelf; a first look goes onto the worklist at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from service import logs
from service.assemble.choose import choose
from service.assemble.early import why_early
from service.domain.job import StudyState
from service.domain.manifest import Manifest
from service.domain.study import Header, Kind
from service.domain.urgency import Urgency
from service.errors import FirstlookError, UnusableStudy
from service.infer.presentation import Presentation
from service.pipeline.accept import accepting
from service.pipeline.assembling import Arriving
from service.pipeline.completion import chosen_digest
from service.pipeline.facts import facts_here
from service.pipeline.first_look import tell_first
from service.pipeline.line import Line
from service.pipeline.look import Looked, look
from service.pipeline.look_ct import Course, leading
from service.pipeline.series import Series, worth_reading
from service.pipeline.shelf import SliceRead
from service.pipeline.slices_ct import SliceFile, SliceReader
from service.store.arrivals import images_since
from service.store.studies import StoredImage, images_of
from service.store.tables import Study
from service.triage.rules import decide
from service.triage.turns import GaveWay

_log = logs.get("ahead")
_SETTLED_S, _SETTLED_OPEN_S = 0.1, 2.0  # without an image: after the release of the association, and before
_CHUNKS = 4  # of slices at a time


@dataclass(eq=False)
class _Coming:
    """A CT study that arrives. newest: number of the last row that was seen; looked_at: when its last image had come, when
    it was looked at as a whole, None: not yet."""

    study: Study
    urgency: Urgency = Urgency.ROUTINE
    newest: int = 0
    told: set[tuple[str, str]] = field(default_factory=set)
    series: dict[str, Series] = field(default_factory=dict)
    looked_at: float | None = None


class Ahead:
    """Works on the CT studies that arrive, the most urgent one first. One thread uses it.

    arriving: of which studies an association is open; looks: it may look at what lies there whole, not only read slices.
    """

    def __init__(self, line: Line, arriving: Arriving, looks: bool = True) -> None:
        self._line, self._arriving, self._looks = line, arriving, looks
        self._coming: dict[int, _Coming] = {}
        self._as_of: int | None = None

    def step(self) -> bool:
        """Do the next piece of work; tell whether there was one, and nothing went before it."""
        self._update()
        for coming in sorted(self._coming.values(), key=lambda c: (c.urgency.rank, c.study.first_received_at)):
            if not self._line.turns.free_ahead(coming.urgency):
                return False
            try:
                if self._advance(coming):
                    return True
            except GaveWay:
                return False
            except (FirstlookError, OSError) as error:
                _log.info("dropped", extra={"study": coming.study.study_instance_uid, "because": type(error).__name__})
                for series in coming.series.values():
                    series.leave()
        return False

    def _update(self) -> None:
        """Take note of studies and images that came, and forget what arrives no longer."""
        self._line.metrics.ahead_bytes.set(self._line.shelf.held_bytes)
        changes = self._line.database.changes()
        if changes is not None and changes == self._as_of:
            return
        with self._line.database.reading() as session:
            found = images_since(session, {number: c.newest for number, c in self._coming.items()})
        waits = {study.id or 0 for study, _ in found}
        here = {study.id or 0: study for study, _ in found if study.state == StudyState.RECEIVING.value
                and study.assessed_at is None and not study.fetched}
        self._line.shelf.only(waits)
        self._coming = {number: self._coming.get(number, _Coming(study)) for number, study in here.items()}
        for study, rows in found:
            coming = self._coming.get(study.id or 0)
            if coming is None:
                continue
            coming.study = study
            images = [StoredImage(Header.from_json(r.header), r.path, r.sha256, r.received_at, r.calling_aet) for r in rows]
            if images:
                coming.newest = max(r.id or 0 for r in rows)
                self._add(coming, images)
        self._as_of = changes

    def _add(self, coming: _Coming, images: Sequence[StoredImage]) -> None:
        self._line.spool_dir.bring(image.path for image in images if worth_reading(image.header))
        for image in images:
            if worth_reading(image.header):
                series = coming.series.setdefault(image.header.series_instance_uid, Series())
                series.add(SliceFile(image.header, self._line.spool_dir / image.path, image.sha256))
        telling = {(i.header.series_instance_uid, i.header.requested_procedure_priority): i for i in images}
        new = [image for key, image in telling.items() if key not in coming.told]
        if new:
            found = decide(facts_here(self._line, coming.study, new), self._line.rules).urgency
            coming.urgency = coming.urgency.raised_to(found) if coming.told else found
            coming.told |= telling.keys()

    def _advance(self, coming: _Coming) -> bool:
        """Read a few more slices of a study, or look at it when it lies there whole; False when there is nothing to do."""
        due = self._worth_a_look(coming)
        series = min((s for s in coming.series.values() if s.files), key=lambda s: s.place, default=None)
        if not due and (series is None or not series.pending):
            return False
        try:
            lead = leading(self._line.bundles_for(Kind.CT))
        except UnusableStudy:
            return False
        if lead is None:
            return False
        if due:
            at = coming.study.last_received_at
            try:
                looked = self._look(coming)
            except (FirstlookError, OSError):
                coming.looked_at = at
                raise
            coming.looked_at = at
            if looked:
                return True
        return series is not None and self._read(coming, series, lead)

    def _worth_a_look(self, coming: _Coming) -> bool:
        """Tell whether images have stopped coming, and were not looked at as a whole since."""
        study = coming.study
        if not self._looks or coming.looked_at == study.last_received_at:
            return False
        still_open = study.study_instance_uid in self._arriving.open_studies()
        return self._line.clock() - study.last_received_at >= (_SETTLED_OPEN_S if still_open else _SETTLED_S)

    def _read(self, coming: _Coming, series: Series, lead: Manifest) -> bool:
        line = self._line
        few = series.next(_CHUNKS * line.engine.batch(lead.name), line.first_look_mm)
        if not few:
            return False
        first = few[0].header
        presentation = Presentation.along(first.image_orientation_patient, series.ascends)
        with line.turns.taken(coming.urgency, ahead=True), line.engine.watching(coming.study.id or 0, ahead=True):
            SliceReader.of(line, lead, presentation, (first.rows or 0, first.columns or 0)).read(
                few, partial(self._keep, coming))
        return True

    def _keep(self, coming: _Coming, uid: str, one: SliceRead) -> None:
        """Put a slice onto the shelf; where there is no room for it, no more of its study are read ahead."""
        room = self._line.shelf.put(coming.study.id or 0, coming.urgency.rank, uid, one)
        for series in coming.series.values():
            if room:
                series.done(uid)
            else:
                series.leave()

    def _look(self, coming: _Coming) -> bool:
        """Look at a study as if it were complete, where its images lie there whole; the look waits on the shelf."""
        line, study, number = self._line, coming.study, coming.study.id or 0
        with line.database.reading() as session:
            images = images_of(session, number)
        try:
            selection = choose([i.header for i in images], line.geometry, line.comparison.of(images), line.frames.of(images))
            accepting(line.bundles_for(selection.kind), selection)
        except UnusableStudy:
            return False
        if selection.kind is not Kind.CT or why_early(selection) is None:
            return False
        digest, rank = chosen_digest(selection, images), coming.urgency.rank
        with (line.turns.taken(coming.urgency, ahead=True), line.engine.watching(number, ahead=True),
              line.shelf.looking(number, digest)):
            line.turns.give_way()
            looked = look(line, selection, images, course=Course(
                line.shelf.slices(number), partial(self._keep, coming),
                partial(tell_first, line, study, digest, coming.urgency, None)))
            line.shelf.keep_look(number, rank, digest, looked, _size_bytes(looked))
        return True


def _size_bytes(looked: Looked) -> int:
    masks = looked.assessment.masks
    return (masks.nbytes if masks is not None else 0) + 4096 * len(looked.sources)
