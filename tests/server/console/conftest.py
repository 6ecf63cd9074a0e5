"""The console without a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.fixtures.console_rig import ConsoleRig, Operator


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[ConsoleRig]:
    yield ConsoleRig(tmp_path)


@pytest.fixture
def operator(rig: ConsoleRig) -> Operator:
    return Operator(rig)
