"""Residual rows at the last prompt token, after chosen decoder layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from refusal_steering.bundle import Window
from refusal_steering.calibration.batched import BatchSteering, batch_steered
from refusal_steering.calibration.subject import Batch, Subject
from refusal_steering.coefficient import LayerSteering

_BATCH_SIZE = 32


class _DeepestLayerReachedError(Exception):
    """Ends a forward pass: the layers above are not wanted."""


@torch.inference_mode()
def collect(
    subject: Subject,
    prompts: Sequence[str],
    layers: Sequence[int],
    steering: Mapping[int, LayerSteering] | None = None,
    gain: float = 1.0,
) -> dict[int, Tensor]:
    """Residual rows [N, H] in float32 for each of ``layers``, in the order of ``prompts``.

    With ``steering`` the rows are what a deeper layer sees while the layers before it steer; a
    layer's own steering is never in its rows.
    """
    size = subject.model.config.get_text_config().hidden_size
    rows = {layer: torch.empty(len(prompts), size) for layer in layers}
    for batch in subject.batches(prompts, _BATCH_SIZE):
        _read_batch(subject, batch, rows, steering or {}, gain)
    return rows


def _read_batch(
    subject: Subject,
    batch: Batch,
    rows: Mapping[int, Tensor],
    steering: Mapping[int, LayerSteering],
    gain: float,
) -> None:
    shallower = {index: layer for index, layer in steering.items() if index < max(rows)}
    state = BatchSteering(shallower, Window(decode_tokens=0), gain)
    handles = [
        subject.decoder_layers[layer].register_forward_hook(_reader(layer, batch, rows))
        for layer in rows
    ]
    try:
        with batch_steered(subject.decoder_layers, state), suppress(_DeepestLayerReachedError):
            subject.model(
                input_ids=batch.input_ids,
                attention_mask=batch.attention_mask,
                position_ids=batch.positions,
                use_cache=False,
            )
    finally:
        for handle in handles:
            handle.remove()


def _reader(layer: int, batch: Batch, rows: Mapping[int, Tensor]) -> Any:
    def hook(_module: nn.Module, _args: Any, output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        rows[layer][batch.rows] = hidden[:, -1].float()
        if layer == max(rows):
            raise _DeepestLayerReachedError

    return hook
