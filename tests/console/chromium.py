"""A headless Chromium for tests; needs Debian's Chromium and the package playwright."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import sync_playwright

from tests.needs import CHROMIUM, need


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser; what a test does without one is said in :mod:`tests.needs`."""
    need("chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()
