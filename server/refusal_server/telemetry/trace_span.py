"""What an OpenTelemetry trace is told of a request's steering, where somebody records traces."""

from __future__ import annotations

import math

from opentelemetry.trace import get_current_span


def annotate(
    policy: str, version: str, coefficient: float, risk: float, rows_verified: int
) -> None:
    """Set attributes ``steering.*`` on the current span if it is recording."""
    span = get_current_span()
    if not span.is_recording():
        return
    span.set_attribute("steering.policy", policy)
    span.set_attribute("steering.version", version)
    span.set_attribute("steering.rows_verified", rows_verified)
    for name, value in (("coefficient", coefficient), ("risk", risk)):
        if math.isfinite(value):
            span.set_attribute(f"steering.{name}", value)
