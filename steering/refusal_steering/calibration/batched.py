"""Steering of left-padded batches in HF transformers: the reference's semantics, many at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from refusal_steering.bundle import Window
from refusal_steering.coefficient import LayerSteering


@dataclass(slots=True)
class BatchSteering:
    """Steers the last row of every sequence; ``earned[layer]`` is [B], of the last prompt token.

    ``step`` is 0 for the prompt and n for the pass over the n-th generated token.
    """

    layers: Mapping[int, LayerSteering]
    window: Window
    strength: float = 1.0
    step: int = 0
    earned: dict[int, Tensor] = field(default_factory=dict)

    def steer(self, index: int, hidden: Tensor) -> Tensor:
        """The residual stream [B, T, H] with its last row moved, where the window says."""
        limit = self.window.decode_tokens
        if limit is not None and self.step > limit:
            return hidden
        layer, last = self.layers[index], hidden[:, -1]
        held = self.step > 0 and self.window.hold
        value = self.earned[index] if held else layer.coefficient(last)
        if self.step == 0:
            self.earned[index] = value
        moved = hidden.clone()
        moved[:, -1] += (value.unsqueeze(-1) * self.strength * layer.direction).to(hidden.dtype)
        return moved


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


@contextmanager
def batch_steered(
    decoder_layers: Sequence[nn.Module], state: BatchSteering | None
) -> Iterator[None]:
    """Hook ``decoder_layers`` (HF modules in order) for the time of the block."""

    def hook_for(index: int, steering: BatchSteering) -> Any:
        def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
            if isinstance(output, tuple):
                return (steering.steer(index, output[0]), *output[1:])
            return steering.steer(index, output)

        return hook

    handles = (
        [decoder_layers[i].register_forward_hook(hook_for(i, state)) for i in state.layers]
        if state
        else []
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
