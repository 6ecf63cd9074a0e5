"""Fixtures that more than one folder of tests shares."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from tests.server.fixtures.live import server

__all__ = ["server"]

# How long an example takes says how busy the machine is.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")
