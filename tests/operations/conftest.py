"""The one server that all tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.operations.site import Site, started


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The server; it stops when the last test of the folder has ended."""
    with started(tmp_path_factory.mktemp("operations")) as site:
        yield site


@pytest.fixture
def site(running: Site) -> Iterator[Site]:
    """The server under its first policy, which is in force again afterwards."""
    yield running
    running.restore()
