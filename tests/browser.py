"""Headless Chromium for tests of pages."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from services import find_programs

if TYPE_CHECKING:
    from playwright.sync_api import Browser

MILLISECONDS = 60_000  # that a page may take on a machine under load


@contextmanager
def start_chromium() -> "Iterator[Browser]":
    """Start headless Chromium; skip the test if it, or playwright, is not installed, and fail in CI."""
    (chromium,) = find_programs("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        absent = "playwright is not installed"
        pytest.fail(absent) if os.environ.get("CI") == "true" else pytest.skip(absent)
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()
