"""What the device reports of a prompt's gate: the score, how far it opened, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TokenRisks:
    """Scores along a prompt from position ``first`` on, mean over layers.

    Each of ``values`` is the highest of ``stride`` tokens in a row.
    """

    first: int
    stride: int
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class GateReading:
    """The gate of one prompt.

    ``score`` is the pooled score, ``opening`` the factor 0 to 1 of the coefficients, ``layers``
    the pooled score of each probed layer. ``position`` is the token whose mean score over layers
    is highest, ``peak`` that score, and ``peaks`` the highest token of each layer by itself.
    ``risks`` is there if the directive asked for it.
    """

    score: float
    opening: float
    position: int
    peak: float
    layers: tuple[float, ...]
    peaks: tuple[int, ...]
    risks: TokenRisks | None = None

    def to_wire(self) -> list[Any]:
        """A compact form for the engine's own message queue."""
        risks = self.risks
        along = None if risks is None else [risks.first, risks.stride, list(risks.values)]
        numbers = [self.score, self.opening, self.position, self.peak]
        return [*numbers, list(self.layers), list(self.peaks), along]

    @classmethod
    def from_wire(cls, value: Sequence[Any]) -> GateReading:
        """Read the compact form."""
        score, opening, position, peak, layers, peaks, along = value
        risks = None if along is None else TokenRisks(along[0], along[1], tuple(along[2]))
        return cls(score, opening, position, peak, tuple(layers), tuple(peaks), risks)
