"""Rows of later layers while earlier adapters steer: the callback of closed-loop training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from refusal_steering.bundle import Window
from refusal_steering.calibration.activations import collect
from refusal_steering.calibration.batched import BatchSteering, batch_steered
from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.coefficient import LayerSteering
from refusal_steering.methods.omnisteer_training import RowsAfter


def recollecting(
    target: CalibrationModel, prompts: Sequence[str], layers: Sequence[int]
) -> RowsAfter:
    """Rows [N, H] of those ``layers`` that are not steered yet, at the last prompt token."""

    def rows_after(finished: Mapping[int, LayerSteering]) -> dict[int, Tensor]:
        ahead = [layer for layer in layers if layer > max(finished, default=-1)]
        with batch_steered(target.decoder_layers, BatchSteering(finished, Window())):
            return collect(target, prompts, ahead)

    return rows_after
