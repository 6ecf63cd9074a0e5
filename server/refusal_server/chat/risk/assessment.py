"""What is known of a request's risk before its answer begins (strategies ``ras``, ``cascade``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


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

    @property
    def shown(self) -> float:
        """The risk that callers are told: the risk pass's where it ran, else the forward pass's."""
        if self.similarity is None and self.forward_risk is not None:
            return self.forward_risk
        return self.risk

    def body(self) -> dict[str, Any]:
        """Its part of the report object."""
        return {
            "risk": round(self.risk, 6),
            "similarity": None if self.similarity is None else round(self.similarity, 6),
            "forward_risk": None if self.forward_risk is None else round(self.forward_risk, 6),
            "seconds": round(self.seconds, 6),
            "passes": self.passes,
            "cached_contexts": self.cached_contexts,
        }
