"""Forward hooks behind decoder layers of HF transformers, for the time of a block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

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
