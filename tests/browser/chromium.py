"""Drive an installed Chromium by Playwright: open a page, press keys, move the pointer, ask, photograph."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser, Error, Page, sync_playwright

DEADLINE_S = 60.0
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_POLL_MS = 20


def executable() -> str | None:
    """Return the path of an installed Chromium, or None."""
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


@contextmanager
def browser() -> Iterator[Browser]:
    """Yield a new headless browser; end it when the block ends."""
    program = executable()
    assert program, "no Chromium is installed"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=["--disable-gpu"])
        try:
            yield running
        finally:
            running.close()


class Tab:
    """One page of the browser."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def size(self, width: int, height: int) -> None:
        """Set the size of the window, CSS pixels."""
        self.page.set_viewport_size({"width": width, "height": height})

    def open(self, address: str) -> None:
        """Open a page and wait until it is complete."""
        self.page.goto(address)
        assert self.page.url == address

    def ask(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page."""
        return self.page.evaluate(expression)

    def wait(self, expression: str) -> None:
        """Wait until a JavaScript expression is true.

        It is asked from outside: Playwright's own way evaluates text later, which the pages' content policy forbids.
        """
        deadline = time.monotonic() + DEADLINE_S
        while not self._holds(expression):
            assert time.monotonic() < deadline, f"never true: {expression}"
            self.page.wait_for_timeout(_POLL_MS)

    def _holds(self, expression: str) -> bool:
        """Tell whether an expression is true; on a page that is being left nothing is."""
        try:
            return bool(self.ask(expression))
        except Error as error:
            if "navigation" not in error.message:
                raise
            return False

    def fill(self, selector: str, value: str) -> None:
        """Type into a field."""
        self.page.fill(selector, value)

    def choose(self, selector: str, value: str) -> None:
        """Choose in a list."""
        self.page.select_option(selector, value)

    def follow(self, selector: str) -> None:
        """Click a button or a link, and wait until the page that it leads to is complete."""
        with self.page.expect_navigation():
            self.page.click(selector)

    def press(self, key: str) -> None:
        """Press and release one key."""
        self.page.keyboard.press(key)

    def point_at(self, selector: str) -> None:
        """Move the pointer to the middle of an element."""
        self.page.mouse.move(*self._place(selector))

    def point_away(self) -> None:
        """Move the pointer to the corner of the page."""
        self.page.mouse.move(1, 1)

    def turn_wheel(self, selector: str, by: int) -> None:
        """Turn the wheel over the middle of an element. by: CSS pixels, down is positive."""
        self.point_at(selector)
        self.page.mouse.wheel(0, by)

    def click(self, selector: str, across: float = 0.5, down: float = 0.5) -> None:
        """Click into an element. across, down: where in it, 0..1 of its width and height."""
        self.page.mouse.click(*self._place(selector, across, down))

    def prefer(self, theme: Literal["dark", "light"]) -> None:
        """Say which theme the reader's system has."""
        self.page.emulate_media(color_scheme=theme)

    def cut_off(self, offline: bool) -> None:
        """Take the network away from the browser, or give it back."""
        self.page.context.set_offline(offline)

    def begin_with(self, script: str) -> None:
        """Run a script in each page before any of its own."""
        self.page.add_init_script(script)

    def photograph(self, path: Path) -> None:
        """Write a PNG of the window."""
        self.page.screenshot(path=path)

    def _place(self, selector: str, across: float = 0.5, down: float = 0.5) -> tuple[float, float]:
        """Return a place in the first such element, found at one stroke: a list that is drawn anew has other elements."""
        box = self.page.evaluate("s => document.querySelector(s).getBoundingClientRect().toJSON()", selector)
        return box["x"] + box["width"] * across, box["y"] + box["height"] * down


@contextmanager
def new_tab(running: Browser, width: int = 1280, height: int = 900) -> Iterator[Tab]:
    """Yield a tab that knows nothing of other tabs: cookies and what pages keep are its own. width, height: CSS pixels."""
    context = running.new_context(viewport={"width": width, "height": height})
    context.set_default_timeout(1000 * DEADLINE_S)
    try:
        yield Tab(context.new_page())
    finally:
        context.close()
