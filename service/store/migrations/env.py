"""Alembic's entry: run the revisions on the connection that `Database.migrate` hands over."""

from __future__ import annotations

from alembic import context
from sqlmodel import SQLModel

from service.store import tables  # noqa: F401  (fills the metadata)


def _migrate() -> None:
    """Upgrade inside the caller's transaction, so that an interrupted upgrade leaves nothing behind."""
    connection = context.config.attributes["connection"]
    context.configure(connection=connection, target_metadata=SQLModel.metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


_migrate()
