"""The bank of one decoder layer: the tensors of every loaded bundle, at fixed addresses.

A bundle occupies one lane, the same number in every layer. Lane 0 is empty for ever. All shapes
are fixed when the engine starts, so that captured graphs stay valid when bundles come and go.
"""

from __future__ import annotations

import torch
from torch import Tensor

from refusal_steering.coefficient import LayerSteering
from refusal_steering.directive import MEDIA
from refusal_steering.errors import BundleError

# Columns of ``scalars``.
OUTPUT_BIAS, FLOOR, CEILING = range(3)
# Columns of ``ledger``.
COEFFICIENT, RISK, ROWS, DOSE = range(4)
# Every set of media has biases of its own: re-centring is an offset of what is read.
MEDIA_SETS = 1 << len(MEDIA)


class LayerBank:
    """Float32 tensors of one layer for ``lanes`` bundles of up to ``units`` hidden units.

    ``weight`` [lanes * (1 + units), H] holds per lane the risk probe first, then the hidden
    units; ``bias`` [lanes * 8, 1 + units] the same per lane and set of media; ``output``
    [lanes, units]; ``scalars`` [lanes, 3]; ``direction`` [lanes, H]. ``ledger`` [slots, 4] is what
    the device writes, by slot: coefficient, risk logit, the number of rows steered, and the
    coefficient as a share of the residual stream's length.
    """

    def __init__(self, lanes: int, units: int, hidden_size: int, slots: int, device: torch.device):
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=torch.float32, device=device)

        self.units = units
        self.weight = zeros(lanes * (1 + units), hidden_size)
        self.bias = zeros(lanes * MEDIA_SETS, 1 + units)
        self.output = zeros(lanes, units)
        self.scalars = zeros(lanes, 3)
        self.direction = zeros(lanes, hidden_size)
        self.ledger = zeros(slots, 4)
        self.lane_units = [0] * lanes

    def rows_of(self, lane: int) -> slice:
        """Rows of ``weight`` that belong to ``lane``."""
        start = lane * (1 + self.units)
        return slice(start, start + 1 + self.units)

    def load(self, lane: int, layer: LayerSteering) -> None:
        """Write one bundle's layer into ``lane``; raises :class:`BundleError` if it is too wide."""
        units = layer.hidden_units
        if units > self.units:
            raise BundleError(
                f"the bundle has {units} hidden units, the engine was started with room for "
                f"{self.units}; restart it with a larger adapter capacity"
            )
        self.clear(lane)
        rows = self.rows_of(lane)
        self.weight[rows][0].copy_(layer.risk_weight)
        self.weight[rows][1 : 1 + units].copy_(layer.input_weight)
        for media in range(MEDIA_SETS):
            self.bias[lane * MEDIA_SETS + media, : 1 + units].copy_(_biases(layer, media))
        self.output[lane, :units].copy_(layer.output_weight)
        self.scalars[lane].copy_(torch.tensor([layer.output_bias, layer.floor, layer.ceiling]))
        self.direction[lane].copy_(layer.direction)
        self.lane_units[lane] = units

    def clear(self, lane: int) -> None:
        """Make ``lane`` add nothing."""
        self.weight[self.rows_of(lane)].zero_()
        self.bias[lane * MEDIA_SETS : (lane + 1) * MEDIA_SETS].zero_()
        for tensor in (self.output[lane], self.scalars[lane], self.direction[lane]):
            tensor.zero_()
        self.lane_units[lane] = 0


def _biases(layer: LayerSteering, media: int) -> Tensor:
    """Biases [1 + units] that read a row as if the offsets of ``media`` were subtracted."""
    offset = layer.offset([name for bit, name in enumerate(MEDIA) if media >> bit & 1])
    risk = layer.risk_bias - layer.risk_weight @ offset
    return torch.cat([risk.view(1), layer.input_bias - layer.input_weight @ offset])
