"""The recorder: residual rows at the last prompt token and final states, for whoever calibrates.

For offline engines only. It works by forward hooks, which compilation would fold away, so the
engine must run eagerly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from safetensors.torch import save
from torch import Tensor, nn

from refusal_steering.errors import UnsupportedEngineError
from refusal_steering.runtime.layers import adds_residual
from refusal_steering.runtime.steerer import ResidualSteering

Output = Tensor | tuple[Tensor, Tensor]


class Recorder:
    """Records every request that has a directive, steered or not.

    Rows are filed under the directive's policy version, which the caller chooses. Where it blends,
    be it by 0, the states that its tokens are chosen from are filed under ``{version}/states``.
    """

    def __init__(self, layers: Mapping[int, nn.Module], steering: ResidualSteering, eager: bool):
        if not eager:
            raise UnsupportedEngineError(
                "activations are recorded by an engine without compilation; start it with "
                "enforce_eager"
            )
        self._steering = steering
        self._rows: dict[str, dict[int, Tensor]] = {}
        self._states: dict[str, dict[int, Tensor]] = {}
        for index, layer in layers.items():
            layer.register_forward_hook(self._hook(index, adds_residual(layer)))

    def take(self) -> bytes:
        """Everything recorded since the last call, as a safetensors file.

        Rows are [layers, H], states [tokens, H].
        """
        found = {**self._rows, **{f"{name}/states": of for name, of in self._states.items()}}
        self._rows, self._states = {}, {}
        return save({name: torch.stack([of[i] for i in sorted(of)]) for name, of in found.items()})

    def watch(self, states: Tensor) -> None:
        """Keep the states [R, H] that a step's logits are about to be computed from."""
        for name, token, at in self._steering.blended_rows():
            self._states.setdefault(name, {})[token] = states[at].float().cpu().clone()

    def _hook(self, index: int, split: bool) -> Callable[[nn.Module, object, Output], None]:
        def hook(_module: nn.Module, _args: object, output: Output) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            flat = hidden.reshape(-1, hidden.shape[-1])
            for name, at in self._steering.last_prompt_rows():
                # A copy: the next layer may write where this one has.
                row = flat[at].float().clone()
                if split and isinstance(output, tuple):
                    row = row + output[1].reshape(-1, hidden.shape[-1])[at].float()
                self._rows.setdefault(name, {})[index] = row.cpu()

        return hook
