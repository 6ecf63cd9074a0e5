"""What is known of a request's risk before its answer begins (strategies ``ras``, ``cascade``)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ForwardRisk:
    """The forward pass's risk, as the first step of an answer that was not kept has read it.

    ``seconds`` is what that answer took until it was dropped.
    """

    risk: float
    seconds: float


@dataclass(frozen=True, slots=True)
class RiskAssessment:
    """One request's risk and what it cost to know it.

    ``risk`` is the r in [0, 1) that the blend is made from. ``similarity`` is the cosine that it
    came from; ``None`` where the forward pass alone decided. ``seconds`` is what the answer had to
    wait for it: nothing where its own first step has read it. ``passes`` counts the internal
    requests made for this one and an answer that was begun in vain, ``cached_contexts`` the
    pictures and videos that needed none. ``forward_risk`` is the forward pass's risk, measured by
    ``cascade`` only.
    """

    risk: float
    similarity: float | None
    seconds: float
    passes: int
    cached_contexts: int
    forward_risk: float | None = None
