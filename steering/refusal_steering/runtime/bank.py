"""The bank of one decoder layer: the tensors of every loaded bundle, at fixed addresses.

A bundle occupies one bundle slot, the same number in every layer. Bundle slot 0 is empty for ever.
All shapes are fixed when the engine starts, so that captured graphs stay valid when bundles come
and go.
"""

from __future__ import annotations

import torch
from torch import Tensor

from refusal_steering.coefficient import Ball, LayerSteering
from refusal_steering.errors import BundleError
from refusal_steering.terms import MEDIA, MOST_COUNTED

# Columns of ``scalars``.
OUTPUT_BIAS, FLOOR, CEILING, USED_UNITS = range(4)
SCALARS = 4
# Columns of ``state``.
COEFFICIENT, RISK, ROWS, DOSE = range(4)
STATE_COLUMNS = 4
# Every mix of media has biases of its own: re-centring is an offset of what is read.
MEDIA_MIXES = (MOST_COUNTED + 1) ** len(MEDIA)
# Rows of a ball: its centre, then the offsets of every medium by the number of items.
BALL_ROWS = 1 + len(MEDIA) * MOST_COUNTED


def state_table(request_slots: int, places: int, device: torch.device) -> Tensor:
    """Entries [request_slots, places, 4] float32 for every steered layer and what else counts."""
    return torch.zeros(request_slots, places, STATE_COLUMNS, dtype=torch.float32, device=device)


class LayerBank:
    """Float32 tensors of one layer for ``bundle_slots`` bundles of up to ``units`` hidden units.

    ``weight`` [bundle_slots * (1 + units), H] holds per bundle slot the risk probe first, then the
    hidden units; ``bias`` [bundle_slots * 125, 1 + units] the same per bundle slot and mix of
    media; ``output`` [bundle_slots, units]; ``scalars`` [bundle_slots, 4]; ``direction``
    [bundle_slots, H]. With ``balls`` there is room for those that bound coefficients: ``ball``
    [bundle_slots * 13, H] holds centre and offsets, ``radius`` [bundle_slots] is infinite without
    one. ``states`` [request_slots, places, 4], which all layers share, is what the device writes
    for each layer in its ``place``, by request slot: coefficient, risk logit, the number of rows
    steered, and the coefficient as a share of the residual stream's length.
    """

    def __init__(
        self,
        bundle_slots: int,
        units: int,
        hidden_size: int,
        states: Tensor,
        place: int,
        *,
        balls: bool = False,
    ):
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=torch.float32, device=states.device)

        self.units = units
        self.weight = zeros(bundle_slots * (1 + units), hidden_size)
        self.bias = zeros(bundle_slots * MEDIA_MIXES, 1 + units)
        self.output = zeros(bundle_slots, units)
        self.scalars = zeros(bundle_slots, SCALARS)
        self.direction = zeros(bundle_slots, hidden_size)
        self.ball = zeros(bundle_slots * BALL_ROWS, hidden_size) if balls else None
        self.radius = zeros(bundle_slots).fill_(torch.inf) if balls else None
        self.states, self.place = states, place
        self.slot_units = [0] * bundle_slots

    @property
    def state(self) -> Tensor:
        """This layer's part of the state table, [request_slots, 4]."""
        return self.states[:, self.place]

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
        self.bias[_part(bundle_slot, MEDIA_MIXES), : 1 + units].copy_(_biases(layer))
        self.output[bundle_slot, :units].copy_(layer.output_weight)
        self.scalars[bundle_slot].copy_(
            torch.tensor([layer.output_bias, layer.floor, layer.ceiling, 0.0])
        )
        self.scalars[bundle_slot, USED_UNITS] = units
        self.direction[bundle_slot].copy_(layer.direction)
        if layer.ball is not None:
            if self.ball is None or self.radius is None:
                raise BundleError(
                    "the bundle has a ball as trust region, the engine was started without room "
                    "for one; restart it with this bundle in its policy"
                )
            self.ball[_part(bundle_slot, BALL_ROWS)].copy_(_ball_rows(layer, layer.ball))
            self.radius[bundle_slot] = layer.ball.radius
        self.slot_units[bundle_slot] = units

    def clear(self, bundle_slot: int) -> None:
        """Make ``bundle_slot`` add nothing."""
        self.weight[self.rows_of(bundle_slot)].zero_()
        self.bias[_part(bundle_slot, MEDIA_MIXES)].zero_()
        if self.ball is not None and self.radius is not None:
            self.ball[_part(bundle_slot, BALL_ROWS)].zero_()
            self.radius[bundle_slot] = torch.inf
        for tensor in (
            self.output[bundle_slot],
            self.scalars[bundle_slot],
            self.direction[bundle_slot],
        ):
            tensor.zero_()
        self.slot_units[bundle_slot] = 0


def media_of(mix: int) -> list[str]:
    """The media of a mix, each as often as its digit says."""
    base = MOST_COUNTED + 1
    counts = {medium: mix // base**place % base for place, medium in enumerate(MEDIA)}
    return [medium for medium, count in counts.items() for _ in range(count)]


def _part(bundle_slot: int, rows: int) -> slice:
    return slice(bundle_slot * rows, (bundle_slot + 1) * rows)


def _biases(layer: LayerSteering) -> Tensor:
    """Biases [125, 1 + units] that read a row as if the offsets of its media were subtracted."""
    plain = torch.cat([torch.tensor([layer.risk_bias]), layer.input_bias])
    if not layer.offsets:
        return plain.expand(MEDIA_MIXES, -1)
    offsets = torch.stack([layer.offset(media_of(mix)) for mix in range(MEDIA_MIXES)])
    return plain - offsets @ torch.cat([layer.risk_weight[None], layer.input_weight]).T


def _ball_rows(layer: LayerSteering, ball: Ball) -> Tensor:
    """Rows [13, H] of a ball."""
    counted = [[medium] * count for medium in MEDIA for count in range(1, MOST_COUNTED + 1)]
    return torch.stack([ball.centre, *(layer.offset(media) for media in counted)])
