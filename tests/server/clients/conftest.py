from __future__ import annotations

import pytest

from tests.server.fixtures.client_site import ClientSite


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> ClientSite:
    """One site for a module; nothing that a test asks changes it."""
    return ClientSite(tmp_path_factory.mktemp("site"))
