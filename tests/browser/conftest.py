"""One browser for all tests of a file; each test has a tab of its own in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.browser.chromium import browser, executable
from tests.peers import missing


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Yield a running Chromium; a test that needs it is skipped where none is installed."""
    if executable() is None:
        missing("Chromium")
    with browser() as running:
        yield running
