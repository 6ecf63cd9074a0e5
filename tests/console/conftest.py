"""One browser for all tests of the console; needs Debian's Chromium and the package playwright."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.console.visit import RULES, Site, Visit
from tests.server.console_rig import ConsoleRig

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    if not CHROMIUM.exists():
        pytest.skip(f"needs Debian's chromium at {CHROMIUM}")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(ConsoleRig(tmp_path, RULES)) as found:
        yield found


@pytest.fixture
def visit(browser: Any, site: Site) -> Iterator[Visit]:
    found = Visit(browser, site)
    yield found
    assert found.complaints == []
    found.context.close()
