"""From the settings to the loops of a process that works: what each does again and again, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from service.assemble.early import EarlyStart
from service.assemble.quiet import QuietTimes
from service.domain.job import JobKind
from service.fetching import watchers
from service.outlets import inquiries
from service.pipeline.ahead import Ahead
from service.pipeline.assembling import Arriving, Assembler
from service.pipeline.drifting import show_drift
from service.pipeline.inquiring import Asking, Inquirer
from service.pipeline.line import Line
from service.pipeline.retain import delete_images
from service.settings import Settings
from service.store.files import Files
from service.tls.renewal import Renewed
from service.worker import (
    assemble_step,
    behind_step,
    beside_step,
    correct_step,
    every,
    passing_changes,
    passing_steps,
    when_changed,
    work_step,
)

Step = Callable[[], bool]

_RETAIN_S = 60.0  # what is to be deleted is looked for this often
_ROOM_S = 15.0  # memory that nobody uses is let go this often
_DRIFT_S = 300.0  # drift is worked out this often


def steps_of(settings: Settings, line: Line, arriving: Arriving, use: Callable[[Renewed], None]) -> dict[str, Step]:
    """Return the step of each loop by the loop's name, in the order in which they start.

    arriving: what is known of images on their way; use: told of the certificates that a step calls with.
    """
    return {**_arrivals(settings, line, arriving, use), **_jobs(settings, line), **_watched(settings, line, use),
            **_upkeep(settings, line)}


def copies_of(settings: Settings, *kept: Files) -> dict[str, Step]:
    """Return the step that deletes old copies of each of these, where the files themselves are in a bucket."""
    if not settings.store.bucket:
        return {}
    copies_s = settings.store.copies_h * 3600
    return {f"copies-{files.root.name}": every(_RETAIN_S, partial(files.forget, copies_s)) for files in kept}


def _arrivals(settings: Settings, line: Line, arriving: Arriving, use: Callable[[Renewed], None]) -> dict[str, Step]:
    """Return what judges whether studies are complete, and what goes on meanwhile."""
    assemble = settings.assemble
    inquirer = Inquirer(line, inquiries(settings, use), Asking(assemble.ask_after_s, assemble.ask_every_s),
                        arriving.open_studies)
    steps: dict[str, Step] = {"assemble": assemble_step(line, _assembler(settings, line, arriving, inquirer))}
    if assemble.ask:
        steps["ask"] = inquirer.step
    steps["lease"] = every(settings.work.lease_s / 4, line.queue.renew)
    if settings.work.ahead_bytes:
        steps["ahead"] = Ahead(line, arriving, assemble.start_early).step
    return steps


def _assembler(settings: Settings, line: Line, arriving: Arriving, inquirer: Inquirer) -> Assembler:
    assemble = settings.assemble
    times = QuietTimes(
        assemble.quiet_cxr_s, assemble.quiet_ct_s, assemble.quiet_least_s, assemble.quiet_most_s,
        assemble.learn_from_studies if assemble.learn_quiet else 0)
    early = EarlyStart(assemble.start_early, assemble.early_cxr_s, assemble.early_ct_s)
    return Assembler(line, times, early, arriving, inquirer.answers)


def _jobs(settings: Settings, line: Line) -> dict[str, Step]:
    """Return what takes jobs: looks, what passes them, deliveries and proofs, fetching."""
    looks = ["infer", *(f"infer-{n}" for n in range(2, settings.work.looks + 1))]
    jobs = {
        **{name: work_step(line, JobKind.INFER) for name in looks},
        "shadow": beside_step(line),
        "correct": correct_step(line),
        **{f"deliver-{name}": work_step(line, JobKind.DELIVER, name) for name in line.targets},
        **{f"prove-{name}": work_step(line, JobKind.PROVE, name) for name in line.targets},
        **{f"fetch-{name}": work_step(line, JobKind.FETCH, name) for name in line.archives},
    }
    return {
        **{name: when_changed(step, line.database.changes) for name, step in jobs.items()},
        **{f"pass-{n}": when_changed(step, partial(passing_changes, line))
           for n, step in enumerate(passing_steps(line, settings.work.passing), 1)},
        **({"behind": when_changed(behind_step(line), partial(passing_changes, line))} if line.archives else {}),
    }


def _watched(settings: Settings, line: Line, use: Callable[[Renewed], None]) -> dict[str, Step]:
    """Return what asks each manager of work items for work."""
    return {f"work-{name}": step for name, step in watchers(settings, line, use).items()}


def _upkeep(settings: Settings, line: Line) -> dict[str, Step]:
    """Return what lets go of memory, and, as far as the settings want it, works out drift and deletes old images."""
    drift, steps = settings.drift, {"room": every(_ROOM_S, line.room.shrink)}
    if drift.days:
        steps["drift"] = every(_DRIFT_S, lambda: show_drift(
            line.database, line.catalogue, line.metrics, line.clock(), drift.days, drift.least_images))
    if settings.store.keep_images_h:
        steps["retain"] = every(_RETAIN_S, partial(delete_images, line, settings.store.keep_images_h * 3600))
    return steps
