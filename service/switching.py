"""Which bundles are in use now, and whether others may be: the same answer for the command line and the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from service.domain.manifest import READERS, TASKS, InvalidManifest
from service.domain.study import Kind
from service.errors import UnusableStudy
from service.infer.catalogue import Catalogue
from service.settings import InvalidSettings, Settings
from service.store.activations import BESIDE, switched_to
from service.store.database import Database
from service.verify import verify

KINDS = tuple(kind.value for kind in Kind)


def as_set(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Return the bundles that the settings name: of each kind of study, and those that look beside."""
    infer = settings.infer
    return {Kind.CT.value: infer.ct_bundles, Kind.CXR.value: infer.cxr_bundles, BESIDE: infer.shadow_bundles}


def in_use(settings: Settings, session: Session) -> dict[str, tuple[str, ...]]:
    """Return the bundles in use now: as last switched, else as set."""
    switched = {kind: switched_to(session, kind) for kind in as_set(settings)}
    return {kind: names if (found := switched[kind]) is None else found for kind, names in as_set(settings).items()}


def in_use_anyway(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Return the bundles in use now, also without a database, or with one that is away or of an older release."""
    if not settings.store.database_url and not (settings.store.data_dir.resolve() / "firstlook.db").exists():
        return as_set(settings)
    database = Database(settings.database_url)
    try:
        with database.reading() as session:
            return in_use(settings, session)
    except SQLAlchemyError:  # nothing was switched that could be known
        return as_set(settings)
    finally:
        database.close()


def require_readers(settings: Settings, kind: str, names: Sequence[str]) -> None:
    """Make sure that these bundles are installed, and read this kind of study. kind: BESIDE for any.

    Raises: InvalidSettings for a name twice, an unknown bundle, or one with another task.
    """
    accepted = [task for task in READERS if kind == BESIDE or TASKS[task] is Kind(kind)]
    if len(set(names)) < len(names):
        raise InvalidSettings("a bundle is named twice")
    try:
        catalogue = Catalogue.load(settings.infer.models_dir)
        tasks = {name: catalogue.get(name).task for name in names}
    except UnusableStudy as error:
        raise InvalidSettings(error.detail) from error
    except InvalidManifest as error:
        raise InvalidSettings(str(error)) from error
    for name, task in tasks.items():
        if task not in accepted:
            raise InvalidSettings(f"{name!r} has the task {task}; accepted for {kind}: {', '.join(accepted)}")


def problems(settings: Settings, names: Sequence[str]) -> Iterator[str]:
    """Yield what keeps bundles from being used, each checked as `firstlook models verify` does; none: they are whole."""
    for name in names:
        for problem in verify((settings.infer.models_dir / name).resolve()).problems:
            yield f"{name}: {' '.join(problem.split())}"
