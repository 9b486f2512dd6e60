"""Is everything in place? One check for each part: for /health/ready and for `firstlook check`."""

from __future__ import annotations

import shutil
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from service.deliver.target import Target
from service.errors import FirstlookError
from service.infer.engine import Engine
from service.settings import Settings
from service.store.database import Database
from service.web.app import Check


def check_database(database: Database) -> Check:
    """Tell whether the database answers and has its tables."""
    try:
        with database.reading() as session:
            session.connection().execute(text("SELECT count(*) FROM job"))
    except SQLAlchemyError as error:
        return Check("database", False, f"{type(error).__name__}: the database does not answer or has no tables")
    return Check("database", True, database.engine.dialect.name)


def check_disk(folder: Path, min_free_bytes: int) -> Check:
    """Tell whether images still have room."""
    free = shutil.disk_usage(folder).free
    said = f"{free / 1e9:.1f} GB free, {min_free_bytes / 1e9:.1f} GB needed"
    return Check("disk", free >= min_free_bytes, said)


def check_bundles(settings: Settings, engine: Engine) -> Check:
    """Tell which bundle runs where."""
    wanted = [name for name in (settings.infer.ct_bundle, settings.infer.cxr_bundle) if name]
    running = engine.providers()
    said = "; ".join(f"{name} on {running.get(name, 'nothing')}" for name in wanted) or "no bundle is set"
    return Check("bundles", all(name in running for name in wanted), said)


def check_target(target: Target) -> Check:
    """Ask a PACS for an echo."""
    try:
        target.echo()
    except FirstlookError as error:
        return Check(f"target {target.name}", False, error.detail)
    return Check(f"target {target.name}", True, "answers C-ECHO")
