"""Steering of left-padded batches in HF transformers: the reference's semantics, many at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from torch import Tensor, nn

from refusal_steering.coefficient import LayerSteering
from refusal_steering.decoder_hooks import after_layers
from refusal_steering.errors import SteeringError
from refusal_steering.spec import SteeringSpec


@dataclass(slots=True)
class BatchSteering:
    """Steers the rows of the window in every sequence [B] of a batch.

    ``opening`` [B] is how far a gated spec's gate opens for each.
    ``step`` counts the last row of a forward pass from the last prompt token: 0 for the prompt, n
    for the pass over the n-th generated token. A pass may hold several rows of the window.
    ``coefficients[layer]`` [B, N] steered the N rows of the last steered pass, before the strength;
    N is 1 where the rows hold the last prompt token's.
    """

    spec: SteeringSpec
    opening: Tensor | None = None
    step: int = 0
    coefficients: dict[int, Tensor] = field(default_factory=dict)

    def steer(self, index: int, hidden: Tensor) -> Tensor:
        """The residual stream [B, T, H] with the rows moved that the window names."""
        spec, layer = self.spec, self.spec.layers[index]
        # Counted from the last prompt token, this is the pass's first row.
        first = self.step + 1 - hidden.shape[1]
        begin, end = max(-first, 0), spec.steered_rows(self.step) - first
        if begin >= end:
            return hidden
        rows = hidden[:, begin:end]
        if not spec.hold:
            self.coefficients[index] = self._earn(layer, rows)
        elif first + begin == 0:
            self.coefficients[index] = self._earn(layer, rows[:, :1])
        if spec.applied_strength == 0.0:
            return hidden
        amount = self.coefficients[index].unsqueeze(-1) * spec.applied_strength
        moved = hidden.clone()
        moved[:, begin:end] += (amount * layer.direction).to(hidden.dtype)
        return moved

    def _earn(self, layer: LayerSteering, rows: Tensor) -> Tensor:
        """Coefficients [B, N] of rows [B, N, H], bounded as a share of their length."""
        value = layer.coefficient(rows, self.spec.media)
        if self.opening is not None:
            value = value * self.opening.unsqueeze(-1)
        if math.isinf(self.spec.max_dose):
            return value
        bound = self.spec.max_dose * rows.float().norm(dim=-1)
        return value.clamp(-bound, bound)


@dataclass(frozen=True, slots=True)
class BatchBlend:
    """Logits of the first answer tokens drawn to prototypes [N, V], by a share per prompt [P]."""

    shares: Tensor
    prototypes: Tensor

    def mix(self, step: int, rows: Sequence[int], logits: Tensor) -> Tensor:
        """Logits [B, V] of answer token ``step`` of the prompts ``rows``."""
        if step >= self.prototypes.shape[0]:
            return logits
        share = self.shares[list(rows)].unsqueeze(-1)
        return (1.0 - share) * logits + share * self.prototypes[step]


def batch_steered(
    decoder_layers: Sequence[nn.Module], state: BatchSteering | None
) -> AbstractContextManager[None]:
    """Hook ``decoder_layers`` (HF modules in order) for the time of the block.

    Raises :class:`SteeringError` for a gated spec without openings: batches begin behind a common
    prefix, so that the gate's prompts are not seen whole here.
    """
    if state is None:
        return nullcontext()
    if state.spec.gate is not None and state.opening is None:
        raise SteeringError("a gated batch needs the openings of its prompts; read them before")
    return after_layers(decoder_layers, state.spec.layers, state.steer)
