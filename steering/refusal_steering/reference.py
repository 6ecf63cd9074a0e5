"""An independent reference: the same steering by forward hooks in HF transformers, batch of one.

Slow and simple on purpose. The engine's laws are tested against it, and the offline tools use it
to measure what a bundle does before anything is served. It takes its terms from the spec, as
everything does, and has arithmetic of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from refusal_steering.coefficient import LayerSteering
from refusal_steering.decoder_hooks import after_layers, output_logits
from refusal_steering.gate.prompt_gate import PromptScore
from refusal_steering.spec import SteeringSpec


class Generated(NamedTuple):
    """Greedy ``tokens``, the ``logprobs`` [V] that chose each, and ``coefficients``.

    ``coefficients[layer][position]`` is what steered the row at that absolute position, before the
    strength. ``score`` is what the gate read of the prompt, in one pass over all of it.
    """

    tokens: list[int]
    logprobs: list[Tensor]
    coefficients: dict[int, dict[int, float]]
    score: PromptScore | None = None


@dataclass(slots=True)
class ReferenceSteering:
    """Steers one sequence of ``prompt_length`` prompt tokens; the next row is at ``position``.

    A gate reads the prompt from ``count_from`` on.
    """

    spec: SteeringSpec
    prompt_length: int
    count_from: int = 0
    position: int = 0
    coefficients: dict[int, dict[int, float]] = field(default_factory=dict)
    score: PromptScore | None = None
    _read: dict[int, Tensor] = field(default_factory=dict)

    @property
    def hooked(self) -> tuple[int, ...]:
        """The layers that are read or steered, in order."""
        gate = self.spec.gate
        return tuple(sorted({*self.spec.layers, *(gate.layers if gate else ())}))

    def follow(self, index: int, hidden: Tensor) -> Tensor:
        """Read residual rows [T, H] of layer ``index`` for the gate, then steer them."""
        gate = self.spec.gate
        if gate is not None and index in gate.probes and self.position == 0:
            self._read[index] = hidden[: self.prompt_length]
            if index == gate.layers[-1]:
                self.score = gate.score(self._read, self.count_from)
        return self.steer(index, hidden) if index in self.spec.layers else hidden

    def steer(self, index: int, hidden: Tensor) -> Tensor:
        """Residual rows [T, H] from ``position`` on, steered where the window says."""
        spec, layer, rows = self.spec, self.spec.layers[index], hidden.clone()
        earned = self.coefficients.setdefault(index, {})
        start, window = self.prompt_length - 1, spec.decode_tokens
        for row in range(rows.shape[0]):
            at = self.position + row
            if at < start or (window is not None and at > start + window):
                continue
            held = spec.hold and at > start
            value = earned[start] if held else self._earn(layer, rows[row])
            earned[at] = value
            rows[row] += (value * spec.applied_strength * layer.direction).to(rows.dtype)
        return rows

    def _earn(self, layer: LayerSteering, row: Tensor) -> float:
        spec = self.spec
        value = float(layer.coefficient(row, spec.media))
        if spec.gate is not None and self.score is not None:
            value *= spec.gate.opening(self.score.score, spec.media)
        if spec.dose_limit is None or spec.strength == 0.0:
            return value
        bound = spec.dose_limit / spec.strength * float(row.float().norm())
        return max(-bound, min(bound, value))


def steered(
    decoder_layers: Sequence[nn.Module], state: ReferenceSteering
) -> AbstractContextManager[None]:
    """Hook ``decoder_layers`` (HF modules in order) for the time of the block."""

    def change(index: int, hidden: Tensor) -> Tensor:
        return state.follow(index, hidden[0]).unsqueeze(0)

    return after_layers(decoder_layers, state.hooked, change)


@torch.inference_mode()
def greedy(
    model: Any, inputs: Mapping[str, Tensor], steps: int, spec: SteeringSpec | None = None
) -> Generated:
    """Greedy continuation of one sequence by ``steps`` tokens.

    ``inputs`` are the model's own (``input_ids`` [1, P], perhaps media). With a ``spec`` the
    decoder layers of the language model are steered and its logits blended.
    """
    length = inputs["input_ids"].shape[1]
    state = _steering(spec, inputs["input_ids"][0].tolist()) if spec else None
    prototypes = _prototype_logits(model, spec)
    past, tokens, scores, feed = None, [], [], dict(inputs)
    with steered(model.get_decoder().layers, state) if state else nullcontext():
        for step in range(steps):
            if state and step:
                state.position = length + step - 1
            output = model(**feed, past_key_values=past, use_cache=True)
            past = output.past_key_values
            logits = output.logits[0, -1].float()
            if spec and step < len(prototypes):
                logits = (1.0 - spec.applied_blend) * logits + spec.applied_blend * prototypes[step]
            logprobs = logits.log_softmax(-1)
            token = int(logprobs.argmax())
            tokens.append(token)
            scores.append(logprobs)
            feed = {"input_ids": torch.tensor([[token]])}
    if state is None:
        return Generated(tokens, scores, {})
    return Generated(tokens, scores, state.coefficients, state.score)


def _steering(spec: SteeringSpec, prompt: list[int]) -> ReferenceSteering:
    count_from = spec.count_from
    if spec.gate is not None and count_from is None:
        count_from = spec.gate.count_from(prompt)
    return ReferenceSteering(spec, len(prompt), min(count_from or 0, len(prompt) - 1))


def _prototype_logits(model: Any, spec: SteeringSpec | None) -> Sequence[Tensor]:
    """The logits [N, V] of the prototypes that are blended in; empty for none."""
    if spec is None or spec.prototypes is None or not spec.applied_blend:
        return ()
    return list(output_logits(model, spec.prototypes.states))
