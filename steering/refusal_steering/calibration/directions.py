"""Refusal directions: difference of means of the residual stream."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Direction:
    """A unit vector [H] and the residual stream's usual length, the unit of doses."""

    unit: Tensor
    scale: float

    @classmethod
    def between(cls, hidden: Tensor, harmful: Tensor) -> Direction:
        """From the harmless to the harmful mean of rows [N, H]; ``scale`` is a median length."""
        difference = mean_difference(hidden, harmful)
        return cls(difference / difference.norm(), float(hidden.norm(dim=-1).median()))


def mean_difference(hidden: Tensor, harmful: Tensor) -> Tensor:
    """Mean of the harmful rows minus mean of the others [H], of ``hidden`` [N, H]."""
    return hidden[harmful].mean(0) - hidden[~harmful].mean(0)
