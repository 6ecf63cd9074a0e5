"""An independent reference: the same steering by forward hooks in HF transformers, batch of one.

Slow and simple on purpose. The engine's laws are tested against it, and the offline tools use it
to measure what a bundle does before anything is served.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from refusal_steering.coefficient import LayerSteering


@dataclass(slots=True)
class ReferenceSteering:
    """Steers one sequence; ``coefficients[layer][position]`` records what each row earned.

    ``media``, ``dose_limit`` and ``blend`` mean what they mean in a directive; ``prototypes``
    [N, V] are the logits to blend in.
    """

    layers: Mapping[int, LayerSteering]
    prompt_length: int
    strength: float = 1.0
    decode_tokens: int | None = None
    hold: bool = True
    media: tuple[str, ...] = ()
    dose_limit: float | None = None
    blend: float = 0.0
    prototypes: Tensor | None = None
    position: int = 0
    coefficients: dict[int, dict[int, float]] = field(default_factory=dict)

    def steer(self, index: int, hidden: Tensor) -> Tensor:
        """Residual rows [T, H] from ``position`` on, steered where the window says."""
        layer, rows = self.layers[index], hidden.clone()
        earned = self.coefficients.setdefault(index, {})
        start = self.prompt_length - 1
        for row in range(rows.shape[0]):
            at = self.position + row
            if at < start or (self.decode_tokens is not None and at > start + self.decode_tokens):
                continue
            held = self.hold and at > start
            value = earned[start] if held else self._earn(layer, rows[row])
            earned[at] = value
            rows[row] += (value * self.strength * layer.direction).to(rows.dtype)
        return rows

    def _earn(self, layer: LayerSteering, row: Tensor) -> float:
        value = float(layer.coefficient(row, self.media))
        if self.dose_limit is None or self.strength == 0.0:
            return value
        bound = self.dose_limit / self.strength * float(row.float().norm())
        return max(-bound, min(bound, value))

    def mix(self, step: int, logits: Tensor) -> Tensor:
        """Logits [V] of answer token ``step`` with its prototype blended in."""
        if self.prototypes is None or step >= self.prototypes.shape[0] or not self.blend:
            return logits
        return (1.0 - self.blend) * logits + self.blend * self.prototypes[step]


@contextmanager
def steered(decoder_layers: Sequence[nn.Module], state: ReferenceSteering) -> Iterator[None]:
    """Hook ``decoder_layers`` (HF modules in order) for the time of the block."""

    def hook_for(index: int) -> Any:
        def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
            hidden = output[0] if isinstance(output, tuple) else output
            changed = state.steer(index, hidden[0]).unsqueeze(0)
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        return hook

    handles = [decoder_layers[i].register_forward_hook(hook_for(i)) for i in state.layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode()
def greedy(
    model: Any, inputs: Mapping[str, Tensor], steps: int, state: ReferenceSteering | None = None
) -> tuple[list[int], list[Tensor]]:
    """Greedy tokens and the log-probabilities [V] that chose each, one sequence.

    ``inputs`` are the model's own (``input_ids`` [1, P], perhaps media). With ``state`` the
    decoder layers of the language model are steered.
    """
    layers = model.get_decoder().layers
    past, tokens, scores, feed = None, [], [], dict(inputs)
    with steered(layers, state) if state else _nothing():
        for step in range(steps):
            if state and step:
                state.position = inputs["input_ids"].shape[1] + step - 1
            output = model(**feed, past_key_values=past, use_cache=True)
            past = output.past_key_values
            logits = output.logits[0, -1].float()
            logprobs = (state.mix(step, logits) if state else logits).log_softmax(-1)
            token = int(logprobs.argmax())
            tokens.append(token)
            scores.append(logprobs)
            feed = {"input_ids": torch.tensor([[token]])}
    return tokens, scores


@contextmanager
def _nothing() -> Iterator[None]:
    yield
