"""Forward hooks on decoders of HF transformers, each for the time of a block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

# Index of a layer and the residual stream [B, T, H] after it, to the stream that goes on.
Change = Callable[[int, Tensor], Tensor]


@contextmanager
def after_layers(
    decoder_layers: Sequence[nn.Module], indices: Iterable[int], change: Change
) -> Iterator[None]:
    """Put ``change`` behind each layer of ``indices``; ``decoder_layers`` are all, in order."""

    def hook_for(index: int) -> Any:
        def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
            if isinstance(output, tuple):
                return (change(index, output[0]), *output[1:])
            return change(index, output)

        return hook

    handles = [decoder_layers[i].register_forward_hook(hook_for(i)) for i in indices]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def final_states(model: Any) -> Iterator[list[Tensor]]:
    """Collect the states [B, T, H] after the last norm of every forward pass of ``model``."""
    seen: list[Tensor] = []

    def hook(_module: nn.Module, _args: Any, output: Any) -> None:
        seen.append(output.last_hidden_state)

    handle = model.get_decoder().register_forward_hook(hook)
    try:
        yield seen
    finally:
        handle.remove()


@torch.inference_mode()
def output_logits(model: Any, states: Tensor) -> Tensor:
    """Logits [..., V] in float32 that ``model`` gives for states [..., H] after its last norm.

    The model computes them itself, with the scale and the cap that some families put behind the
    output layer, as the engine does.
    """
    rows = states.reshape(-1, 1, states.shape[-1]).to(model.get_output_embeddings().weight.dtype)

    def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
        output.last_hidden_state = rows
        return output

    handle = model.get_decoder().register_forward_hook(hook)
    try:
        # Any token will do: what the layers make of it is put aside.
        feed = torch.zeros(rows.shape[0], 1, dtype=torch.long)
        logits: Tensor = model(input_ids=feed, use_cache=False).logits
    finally:
        handle.remove()
    return logits.float().reshape(*states.shape[:-1], -1)
