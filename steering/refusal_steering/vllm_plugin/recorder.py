"""The recorder: residual rows at the last prompt token, kept for whoever calibrates.

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
    """Records every request whose directive asks for the last prompt token alone.

    Rows are filed under the directive's policy version, which the caller chooses.
    """

    def __init__(self, layers: Mapping[int, nn.Module], steering: ResidualSteering, eager: bool):
        if not eager:
            raise UnsupportedEngineError(
                "activations are recorded by an engine without compilation; start it with "
                "enforce_eager"
            )
        self._steering = steering
        self._rows: dict[str, dict[int, Tensor]] = {}
        for index, layer in layers.items():
            layer.register_forward_hook(self._hook(index, adds_residual(layer)))

    def take(self) -> bytes:
        """Everything recorded since the last call, as a safetensors file of [layers, H] tensors."""
        rows, self._rows = self._rows, {}
        return save({name: torch.stack([of[i] for i in sorted(of)]) for name, of in rows.items()})

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
