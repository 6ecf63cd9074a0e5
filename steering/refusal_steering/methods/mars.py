"""MARS: one text refusal direction in one layer, gated, inside a trust region.

arXiv 2606.31876, of which no code and no formula could be had; what is done here is our reading
of it and is stated in full. With r = mean(harmful) - mean(harmless) of text rows, u = r / |r|, m
the midpoint of the means and p = <h - offset - m, u>, the coefficient is

    gate(p > tau) * min(lam * (p - tau), max(edge - p, 0))

along u: nothing below the gate, proportional above it, and never past ``edge``, where the harmful
rows of the calibration end. That is the trust region on a line. The other is a ball around the mean
of the harmful rows, with the distance that most of them keep to it as radius; then the coefficient
is

    gate(p > tau) * min(lam * (p - tau), room)

where ``room`` is how far the row can move along u inside the ball.

The offset of a medium is what neutral media add to a row (paired), or where neutral media lie as
seen from m (absolute: neutral media become the origin).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from refusal_steering.coefficient import Ball, LayerSteering
from refusal_steering.errors import SteeringError
from refusal_steering.methods.adapter import train_probe

Shape = Literal["line", "ball"]
OffsetKind = Literal["paired", "absolute"]


@dataclass(frozen=True, slots=True)
class TrustRegion:
    """How MARS turns a position on the direction into a coefficient.

    ``gate`` is tau, ``slope`` lam, ``quantile`` of the harmful rows is where the covered region
    ends. ``reach`` allows a share of that more, on a line. ``shape`` is that of the region.
    """

    gate: float = 0.0
    slope: float = 4.0
    quantile: float = 0.95
    reach: float = 1.0
    shape: Shape = "line"


@dataclass(frozen=True, slots=True)
class TextDirection:
    """Unit direction [H] of one layer, the midpoint's position on it, half the means' distance.

    ``midpoint`` [H] lies between the means, ``unsafe`` [H] is that of harmful rows.
    """

    unit: Tensor
    middle: float
    half: float
    midpoint: Tensor
    unsafe: Tensor

    @classmethod
    def between(cls, rows: Tensor, harmful: Tensor) -> TextDirection:
        """From text rows [N, H] with labels [N]; raises :class:`SteeringError` if none is there."""
        rows = rows.float()
        unsafe, safe = rows[harmful].mean(0), rows[~harmful].mean(0)
        length = float((unsafe - safe).norm())
        if not length > 0.0:
            raise SteeringError(
                "harmful and harmless rows have the same mean, so there is no refusal direction; "
                "check the labels and the layer"
            )
        unit = (unsafe - safe) / length
        midpoint = (unsafe + safe) / 2
        return cls(unit, float(unit @ midpoint), length / 2, midpoint, unsafe)

    def place(self, rows: Tensor) -> Tensor:
        """Positions p [N] of rows [N, H]; the two means lie at -half and +half."""
        return rows.float() @ self.unit - self.middle


def mars_layer(rows: Tensor, harmful: Tensor, how: TrustRegion) -> LayerSteering:
    """The layer of a MARS bundle from text rows [N, H]; risk is a logistic curve over p.

    Raises :class:`SteeringError` for a region in which nothing could be steered.
    """
    direction = TextDirection.between(rows, harmful)
    places = direction.place(rows)
    ball = _ball(direction, rows[harmful], how) if how.shape == "ball" else None
    edge = float(places[harmful].quantile(how.quantile)) * (1.0 + how.reach)
    if ball is not None:
        edge = direction.half + ball.radius
    if edge <= how.gate:
        raise SteeringError(
            f"the trust region ends at {edge:.3g}, below the gate at {how.gate:.3g}: nothing could "
            "be steered. Lower the gate, or take a layer that separates better."
        )
    summit = (edge + how.slope * how.gate) / (1.0 + how.slope)
    # min(lam (p - tau), edge - p) above tau, as three ReLUs at its corners; a ball needs the first.
    corners = torch.tensor([how.gate, summit, edge])
    heights = torch.tensor([how.slope, -(how.slope + 1.0), 1.0])
    units = 3 if ball is None else 1
    slope, bias = train_probe(places.unsqueeze(-1), harmful, torch.ones(len(places)))
    return LayerSteering(
        direction=direction.unit,
        input_weight=direction.unit.expand(units, -1).clone(),
        input_bias=-direction.middle - corners[:units],
        output_weight=heights[:units],
        output_bias=0.0,
        floor=0.0,
        ceiling=how.slope * (summit - how.gate),
        risk_weight=direction.unit * slope,
        risk_bias=bias - float(slope) * direction.middle,
        ball=ball,
    )


def _ball(direction: TextDirection, harmful: Tensor, how: TrustRegion) -> Ball:
    distances = (harmful.float() - direction.unsafe).norm(dim=-1)
    return Ball(direction.unsafe, float(distances.quantile(how.quantile)))


def media_offset(kind: OffsetKind, beside: Tensor, alone: Tensor, midpoint: Tensor) -> Tensor:
    """The offset of neutral media from mean rows [..., H], ``beside`` them and ``alone``.

    ``midpoint`` [H] is that of text rows.
    """
    return beside - (alone if kind == "paired" else midpoint)


def neutral_offset(with_media: Tensor, without: Tensor) -> Tensor:
    """What neutral media add to a row [H]: mean difference of paired rows [N, H]."""
    if with_media.shape != without.shape or not len(with_media):
        raise SteeringError(
            f"{len(with_media)} rows with neutral media and {len(without)} without; expected the "
            "same prompts in the same order"
        )
    return (with_media.float() - without.float()).mean(0)
