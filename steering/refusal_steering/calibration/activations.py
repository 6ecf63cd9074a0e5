"""Residual rows at the last prompt token, after chosen decoder layers of the unsteered model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import torch
from torch import Tensor

from refusal_steering.calibration.model import Batch, CalibrationModel
from refusal_steering.decoder_hooks import after_layers

_BATCH_SIZE = 32


class _DeepestLayerReachedError(Exception):
    """Ends a forward pass: the layers above are not wanted."""


@torch.inference_mode()
def collect(
    target: CalibrationModel, prompts: Sequence[str], layers: Sequence[int]
) -> dict[int, Tensor]:
    """Residual rows [N, H] in float32 for each of ``layers``, in the order of ``prompts``."""
    size = target.model.config.get_text_config().hidden_size
    rows = {layer: torch.empty(len(prompts), size) for layer in layers}
    for batch in target.batches(prompts, _BATCH_SIZE):
        _read_batch(target, batch, rows)
    return rows


def _read_batch(target: CalibrationModel, batch: Batch, rows: Mapping[int, Tensor]) -> None:
    def read(layer: int, hidden: Tensor) -> Tensor:
        rows[layer][batch.rows] = hidden[:, -1].float()
        if layer == max(rows):
            raise _DeepestLayerReachedError
        return hidden

    with suppress(_DeepestLayerReachedError), after_layers(target.decoder_layers, rows, read):
        target.model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.positions,
            past_key_values=batch.take_prefix(),
            use_cache=True,
        )
