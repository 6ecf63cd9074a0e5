"""The gate of a bundle: which requests earn any steering at all, as one score over its layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from refusal_steering.calibration.conformal import Threshold, budget_threshold
from refusal_steering.coefficient import LayerSteering
from refusal_steering.methods.adapter import unclamped


def gate_scores(layers: Mapping[int, LayerSteering], rows: Mapping[int, Tensor]) -> Tensor:
    """Largest unclamped coefficient over layers, each as a share of its ceiling [N].

    A request is touched exactly if its score is above 0: until a layer fires, every layer sees
    the unsteered stream, so rows of the unsteered model decide.
    """
    shares = [unclamped(layer, rows[index]) / layer.ceiling for index, layer in layers.items()]
    return torch.stack(shares).amax(0)


def within_budget(
    layers: Mapping[int, LayerSteering], harmless: Mapping[int, Tensor], budget: float
) -> tuple[dict[int, LayerSteering], Threshold]:
    """Layers shifted so that at most ``budget`` of harmless requests are touched.

    ``harmless`` are rows [n, H] by layer, one row per independent request. The threshold is on
    the gate's score; it may lower or raise the layers' biases.
    """
    threshold = budget_threshold(gate_scores(layers, harmless), budget)
    # Nothing is touched at the threshold itself.
    shift = threshold.value + 1e-6
    moved = {
        index: replace(layer, output_bias=layer.output_bias - shift * layer.ceiling)
        for index, layer in layers.items()
    }
    return moved, threshold
