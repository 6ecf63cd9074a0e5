"""The bank of one decoder layer: the tensors of every loaded bundle, at fixed addresses.

A bundle occupies one bundle slot, the same number in every layer. Bundle slot 0 is empty for ever.
All shapes are fixed when the engine starts, so that captured graphs stay valid when bundles come
and go.
"""

from __future__ import annotations

import torch
from torch import Tensor

from refusal_steering.coefficient import LayerSteering
from refusal_steering.errors import BundleError
from refusal_steering.terms import MEDIA

# Columns of ``scalars``.
OUTPUT_BIAS, FLOOR, CEILING = range(3)
# Columns of ``state``.
COEFFICIENT, RISK, ROWS, DOSE = range(4)
# Every set of media has biases of its own: re-centring is an offset of what is read.
MEDIA_SETS = 1 << len(MEDIA)


class LayerBank:
    """Float32 tensors of one layer for ``bundle_slots`` bundles of up to ``units`` hidden units.

    ``weight`` [bundle_slots * (1 + units), H] holds per bundle slot the risk probe first, then the
    hidden units; ``bias`` [bundle_slots * 8, 1 + units] the same per bundle slot and set of media;
    ``output`` [bundle_slots, units]; ``scalars`` [bundle_slots, 3]; ``direction`` [bundle_slots,
    H]. ``state`` [request_slots, 4] is what the device writes, by request slot: coefficient, risk
    logit, the number of rows steered, and the coefficient as a share of the residual stream's
    length.
    """

    def __init__(
        self,
        bundle_slots: int,
        units: int,
        hidden_size: int,
        request_slots: int,
        device: torch.device,
    ):
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=torch.float32, device=device)

        self.units = units
        self.weight = zeros(bundle_slots * (1 + units), hidden_size)
        self.bias = zeros(bundle_slots * MEDIA_SETS, 1 + units)
        self.output = zeros(bundle_slots, units)
        self.scalars = zeros(bundle_slots, 3)
        self.direction = zeros(bundle_slots, hidden_size)
        self.state = zeros(request_slots, 4)
        self.slot_units = [0] * bundle_slots

    def rows_of(self, bundle_slot: int) -> slice:
        """Rows of ``weight`` that belong to ``bundle_slot``."""
        start = bundle_slot * (1 + self.units)
        return slice(start, start + 1 + self.units)

    def load(self, bundle_slot: int, layer: LayerSteering) -> None:
        """Write a bundle's layer into ``bundle_slot``; raises :class:`BundleError` if too wide."""
        units = layer.hidden_units
        if units > self.units:
            raise BundleError(
                f"the bundle has {units} hidden units, the engine was started with room for "
                f"{self.units}; restart it with a larger adapter capacity"
            )
        self.clear(bundle_slot)
        rows = self.rows_of(bundle_slot)
        self.weight[rows][0].copy_(layer.risk_weight)
        self.weight[rows][1 : 1 + units].copy_(layer.input_weight)
        for media in range(MEDIA_SETS):
            self.bias[bundle_slot * MEDIA_SETS + media, : 1 + units].copy_(_biases(layer, media))
        self.output[bundle_slot, :units].copy_(layer.output_weight)
        self.scalars[bundle_slot].copy_(
            torch.tensor([layer.output_bias, layer.floor, layer.ceiling])
        )
        self.direction[bundle_slot].copy_(layer.direction)
        self.slot_units[bundle_slot] = units

    def clear(self, bundle_slot: int) -> None:
        """Make ``bundle_slot`` add nothing."""
        self.weight[self.rows_of(bundle_slot)].zero_()
        self.bias[bundle_slot * MEDIA_SETS : (bundle_slot + 1) * MEDIA_SETS].zero_()
        for tensor in (
            self.output[bundle_slot],
            self.scalars[bundle_slot],
            self.direction[bundle_slot],
        ):
            tensor.zero_()
        self.slot_units[bundle_slot] = 0


def _biases(layer: LayerSteering, media: int) -> Tensor:
    """Biases [1 + units] that read a row as if the offsets of ``media`` were subtracted."""
    offset = layer.offset([name for bit, name in enumerate(MEDIA) if media >> bit & 1])
    risk = layer.risk_bias - layer.risk_weight @ offset
    return torch.cat([risk.view(1), layer.input_bias - layer.input_weight @ offset])
