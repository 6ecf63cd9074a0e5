"""Fixtures that more than one folder of tests shares."""

from __future__ import annotations

from tests.server.live import server

__all__ = ["server"]
