"""The loss of OmniSteer's adapters (arXiv 2602.10161, section 4), for one layer."""

from __future__ import annotations

import torch
from torch import Tensor

from refusal_steering.methods.omnisteer_presets import Preset


def item_losses(
    coefficient: Tensor, along: Tensor, harmful: Tensor, norm: float, preset: Preset
) -> Tensor:
    """Loss of each row [N].

    ``coefficient`` [N] and ``along`` [N], the rows' projections on the unit vector, are in
    residual-stream units; ``norm`` is the length of the golden vector. Steering moves the
    projection to ``along + coefficient``. For centred thresholds the caller subtracts the
    harmless mean from ``along``.
    """
    unit = preset.hinge_unit(norm)
    reached = (along + coefficient) / unit
    size = coefficient.abs() / preset.coefficient_unit(norm)
    missing = torch.relu(preset.reach - reached) + preset.harmful_cost * size
    excess = torch.relu(reached + preset.keep) + preset.harmless_cost * size
    return torch.where(harmful, missing, excess)


def batch_loss(
    coefficient: Tensor, along: Tensor, harmful: Tensor, norm: float, preset: Preset
) -> Tensor:
    """Mean over harmful rows plus mean over harmless rows; a class that is absent adds nothing."""
    losses = item_losses(coefficient, along, harmful, norm, preset)
    means = [losses[of].mean() for of in (harmful, ~harmful) if bool(of.any())]
    return torch.stack(means).sum()
