"""Headless Chromium for tests of pages."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from services import find_programs, skip_or_fail

if TYPE_CHECKING:
    from playwright.sync_api import Browser

MILLISECONDS = 60_000  # that a page may take on a machine under load


@contextmanager
def start_chromium() -> "Iterator[Browser]":
    """Start headless Chromium; skip the test if it, or playwright, is not installed, or fail."""
    (chromium,) = find_programs("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        skip_or_fail("playwright is not installed")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()
