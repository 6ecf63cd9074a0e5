"""The recorder: residual rows and final states, for whoever calibrates.

For offline engines only. It works by forward hooks, which compilation would fold away, so the
engine must run eagerly.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch
from safetensors.torch import save
from torch import Tensor, nn

from refusal_steering.errors import UnsupportedEngineError
from refusal_steering.runtime.steerer import ResidualSteering
from refusal_steering.runtime.stream import DecoderLayer, Output, Place, parts

MOST_HELD = 128 << 20
"""Bytes of whole prompts that are held; of more than one prompt, none is kept beyond them."""


class Recorder:
    """Records every request that has a directive, steered or not.

    Rows are those of last prompt tokens behind all layers, or, after :meth:`watch_prompts`, those
    of all prompt tokens behind some. They are filed under the directive's policy version, which the
    caller chooses. Where it blends, be it by 0, the states that its tokens are chosen from are
    filed under ``{version}/states``.
    """

    def __init__(self, layers: Mapping[int, DecoderLayer], steering: ResidualSteering, eager: bool):
        if not eager:
            raise UnsupportedEngineError(
                "activations are recorded by an engine without compilation; start it with "
                "enforce_eager"
            )
        self._steering = steering
        self._rows: dict[str, dict[int, Tensor]] = {}
        self._states: dict[str, dict[int, Tensor]] = {}
        self._prompts: dict[str, dict[int, Tensor]] = {}
        self._prompt_layers: frozenset[int] = frozenset()
        self._full = False
        for index, layer in layers.items():
            layer.module.register_forward_hook(self._hook(index, layer.residual))

    def watch_prompts(self, layers: Collection[int]) -> None:
        """From now on record whole prompts behind ``layers``; none goes back to last tokens."""
        self._prompt_layers = frozenset(layers)
        self.take()

    def take(self) -> bytes:
        """Everything recorded since the last call, as a safetensors file.

        Rows of last tokens are [layers, H], states [tokens, H]. Whole prompts are [T, H] in
        bfloat16 under ``{version}/{layer}``; there are none where they were too many to hold.
        """
        found = {**self._rows, **{f"{name}/states": of for name, of in self._states.items()}}
        stacked = {name: torch.stack([of[i] for i in sorted(of)]) for name, of in found.items()}
        whole = {
            f"{name}/{layer}": rows
            for name, of in self._prompts.items()
            for layer, rows in of.items()
        }
        self._rows, self._states, self._prompts, self._full = {}, {}, {}, False
        return save({**stacked, **whole})

    def watch(self, states: Tensor) -> None:
        """Keep the states [R, H] that a step's logits are about to be computed from."""
        for name, token, at in self._steering.blended_rows():
            self._states.setdefault(name, {})[token] = states[at].float().cpu().clone()

    def _hook(self, index: int, residual_at: Place) -> Callable[[nn.Module, object, Output], None]:
        def hook(_module: nn.Module, _args: object, output: Output) -> None:
            if index in self._prompt_layers:
                self._keep_prompts(index, output, residual_at)
            if not self._prompt_layers:
                self._keep_last(index, output, residual_at)

        return hook

    def _keep_last(self, index: int, output: Output, residual_at: Place) -> None:
        for name, at in self._steering.last_prompt_rows():
            # A copy: the next layer may write where this one has.
            self._rows.setdefault(name, {})[index] = (
                _stream(output, residual_at, at, 1)[0].cpu().clone()
            )

    def _keep_prompts(self, index: int, output: Output, residual_at: Place) -> None:
        for part in () if self._full else self._steering.prompt_parts():
            rows = _stream(output, residual_at, part.at, part.rows).bfloat16().cpu()
            kept = self._prompts.setdefault(part.policy_version, {})
            if index not in kept:
                kept[index] = rows.new_full((part.length, rows.shape[1]), torch.nan)
            kept[index][part.first : part.first + part.rows] = rows
        if len(self._prompts) > 1 and _bytes(self._prompts) > MOST_HELD:
            self._prompts, self._full = {}, True


def _stream(output: Output, residual_at: Place, at: int, count: int) -> Tensor:
    """``count`` rows [n, H] of the residual stream in float32."""
    first, residual = (
        None if part is None else part.reshape(-1, part.shape[-1])[at : at + count].float()
        for part in parts(output, residual_at)
    )
    assert first is not None
    return first if residual is None else first + residual


def _bytes(prompts: Mapping[str, Mapping[int, Tensor]]) -> int:
    return sum(rows.nbytes for of in prompts.values() for rows in of.values())
