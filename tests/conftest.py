"""Fixtures that more than one folder of tests shares."""

from __future__ import annotations

from tests.server.fixtures.live import server

__all__ = ["server"]
