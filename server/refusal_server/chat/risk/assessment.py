"""What is known of a request's risk before its answer begins (strategies ``ras``, ``cascade``)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RiskAssessment:
    """One request's risk and what it cost to know it.

    ``risk`` is the r in [0, 1) that the blend is made from. ``similarity`` is the cosine that it
    came from; ``None`` where the forward pass alone decided. ``passes`` counts the internal
    requests made for this one, ``cached_contexts`` the pictures and videos that needed none.
    ``forward_risk`` is the forward pass's risk, measured by ``cascade`` only.
    """

    risk: float
    similarity: float | None
    seconds: float
    passes: int
    cached_contexts: int
    forward_risk: float | None = None
