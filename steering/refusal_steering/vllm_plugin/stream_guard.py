"""One small step of the loaded model, run to see how its layers carry the residual stream.

It runs after the weights are read and before anything is compiled, captured or steered. Under
tensor parallelism every rank must carry the same stream: one that hands on partial sums would be
steered once on each rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from refusal_steering.errors import UnsupportedModelError
from refusal_steering.runtime.layers import decoder_layers, language_model
from refusal_steering.runtime.stream import DecoderLayer, measure_streams
from refusal_steering.vllm_plugin.protocols import ModelRunner, VllmConfig
from refusal_steering.vllm_plugin.runner import dummy_step

_ROWS = 16
# Ranks may add in another order, which half precision shows.
_APART = 0.02


def measured_layers(runner: ModelRunner, config: VllmConfig) -> list[DecoderLayer]:
    """All decoder layers of the loaded model, each with its reading of the stream.

    Raises :class:`UnsupportedModelError` for a model that would be read or steered wrongly.
    """
    from vllm.config import set_current_vllm_config

    text, model = config.model_config.hf_text_config, runner.get_model()
    layers = list(decoder_layers(model, text.num_hidden_layers))
    rows = min(_ROWS, config.scheduler_config.max_num_batched_tokens)
    with set_current_vllm_config(config), _uncompiled(model), _random_attention(config):
        try:
            found, streams = measure_streams(
                language_model(model),
                layers,
                lambda: dummy_step(runner, rows),
                rows=rows,
                size=text.hidden_size,
            )
        except UnsupportedModelError as error:
            if config.parallel_config.tensor_parallel_size == 1:
                raise
            hint = "with --tensor-parallel-size 1 its layers may hand on whole sums"
            raise UnsupportedModelError(f"{error}; {hint}") from error
    _same_on_every_rank(found, streams)
    return found


@contextmanager
def _uncompiled(model: nn.Module) -> Iterator[None]:
    """Inside a compiled graph nothing could be watched; compiling parts alone takes seconds."""
    compiled = [one for one in model.modules() if getattr(one, "do_not_compile", None) is False]
    for one in compiled:
        one.do_not_compile = True  # type: ignore[assignment]
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for one in compiled:
            one.do_not_compile = False  # type: ignore[assignment]


@contextmanager
def _random_attention(config: VllmConfig) -> Iterator[None]:
    """Without a cache, attention hands on memory as it finds it; random rows tell more.

    ``forward`` is put in the place of the module's own and no hook is used, because vLLM's
    Transformers backend calls ``forward`` by name.
    """
    random = torch.Generator().manual_seed(1)

    def filled(forward: Callable[..., Any]) -> Callable[..., Any]:
        def fill(*args: Any, **kwargs: Any) -> Any:
            output = forward(*args, **kwargs)
            if isinstance(output, Tensor) and output.is_floating_point():
                output.copy_(torch.randn(output.shape, generator=random))
            return output

        return fill

    known = config.compilation_config.static_forward_context.values()
    changed = [(one, vars(one).get("forward")) for one in known if isinstance(one, nn.Module)]
    for one, _ in changed:
        one.forward = filled(one.forward)
    try:
        yield
    finally:
        for one, own in changed:
            del one.forward
            if own is not None:
                one.forward = own


def _same_on_every_rank(layers: Sequence[DecoderLayer], streams: Sequence[Tensor]) -> None:
    from vllm.distributed import get_tp_group

    group = get_tp_group()
    if group.world_size == 1:
        return
    sums = torch.stack([checksum(stream) for stream in streams])
    check_ranks([type(layer.module).__name__ for layer in layers], sums, group.all_gather)


def checksum(stream: Tensor) -> Tensor:
    """One number for each row of a stream [T, H], as long as the row is."""
    rows = stream.float().reshape(-1, stream.shape[-1])
    weight = torch.randn(rows.shape[-1], generator=torch.Generator().manual_seed(2))
    return rows @ weight.to(rows.device)


def check_ranks(
    names: Sequence[str], sums: Tensor, gather: Callable[[Tensor, int], Tensor]
) -> None:
    """Raise :class:`UnsupportedModelError` unless all ranks have the same checksums [L, T].

    ``gather`` joins every rank's tensor along a dimension.
    """
    every = gather(sums[None].contiguous(), 0)
    length = every.square().mean((0, 2)).sqrt()
    apart = (every.amax(0) - every.amin(0)).amax(1) / length.clamp_min(torch.finfo().tiny)
    at = int(apart.argmax())
    if not float(apart[at]) <= _APART:
        raise UnsupportedModelError(
            f"{names[at]} number {at} hands on another residual stream on every rank (apart by "
            f"{float(apart[at]):.2g} of its length, expected at most {_APART:g}): steering would "
            "act once on each. Serve this model with --tensor-parallel-size 1, or without steering"
        )
