"""What many of the tests here need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.store.database import Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Yield an empty database of its own, in a file, with all tables."""
    made = Database(f"sqlite:///{tmp_path / 'firstlook.db'}")
    made.migrate()
    yield made
    made.close()
