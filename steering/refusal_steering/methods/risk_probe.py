"""A risk probe for layers that have none, from an activation file."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from refusal_steering.calibration.activation_file import ActivationFile, ActivationFileError
from refusal_steering.coefficient import LayerSteering
from refusal_steering.methods.adapter import train_probe, with_probe


def with_trained_probe(
    layers: Mapping[int, LayerSteering], file: ActivationFile
) -> dict[int, LayerSteering]:
    """``layers`` with a logistic probe at the first of them, fitted to the training rows.

    That layer is read before anything is steered. Raises :class:`ActivationFileError`.
    """
    first, learning = min(layers), file.in_split("train")
    rows, harmful = file.layer(first)[learning], file.harmful[learning]
    if not bool(harmful.any()) or bool(harmful.all()):
        raise ActivationFileError("a risk probe needs harmful and harmless training rows")
    if rows.shape[1] != layers[first].direction.shape[0]:
        raise ActivationFileError(
            f"the activations have width {rows.shape[1]}, the steering vectors "
            f"{layers[first].direction.shape[0]}; collect them from the model that is steered"
        )
    return with_probe(layers, first, *train_probe(rows, harmful, torch.ones(len(rows))))
