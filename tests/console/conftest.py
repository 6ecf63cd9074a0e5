"""One browser for all tests of the console, a site for each, and a visit of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.console.chromium import chromium
from tests.console.visit import RULES, Site, Visit
from tests.server.fixtures.console_rig import ConsoleRig


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


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
