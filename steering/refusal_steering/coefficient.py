"""How strongly one layer steers one token: the coefficient of every strategy in one form.

A coefficient is a two-layer perceptron on the residual stream ``h`` after a decoder layer,

    k(h) = clamp(w_out . relu(W_in h + b_in) + b_out, floor, ceiling)

in units of the residual stream's length along a unit direction. Media move the residual stream
whatever they show, so what is read is re-centred first: ``h`` stands for ``h`` minus the offset of
every medium that the request brings, by how many items of it there are (MARS, arXiv 2606.31876; the
sum is our rule for mixed requests). A ball may bound how far ``h`` is moved.

The form covers the published strategies: ``static`` has no hidden units (k = b_out); OmniSteer's
adapter is the form itself (arXiv 2602.10161, section 4: 128 units); MARS's gated projection is
piecewise linear: inside an interval it needs three units, inside a ball one. Input standardisation
is folded into ``W_in`` and ``b_in`` by whoever trains.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Ball:
    """A trust region: the rows within ``radius`` of ``centre`` [H], in float32 on the CPU."""

    centre: Tensor
    radius: float

    def room(self, rows: Tensor, direction: Tensor) -> Tensor:
        """How far re-centred rows [..., H] may move along the unit ``direction`` and stay inside.

        A row that does not meet the ball on its way may move to where it is nearest; 0 where all of
        that lies behind it.
        """
        seen = rows - self.centre
        along = seen @ direction
        across = (seen - along.unsqueeze(-1) * direction).norm(dim=-1)
        # (R - a)(R + a) keeps what R^2 - a^2 loses to rounding.
        half: Tensor = ((self.radius - across) * (self.radius + across)).clamp(min=0.0).sqrt()
        return (half - along).clamp(min=0.0)


@dataclass(frozen=True, slots=True)
class LayerSteering:
    """Everything one decoder layer needs, in float32 on the CPU.

    Shapes: ``direction`` [H], unit norm; ``input_weight`` [D, H]; ``input_bias`` and
    ``output_weight`` [D]; ``risk_weight`` [H]. ``D`` may be 0. The risk probe is linear: its
    logit is ``risk_weight . h + risk_bias``, positive for harmful. ``offsets`` by medium re-centre
    what perceptron, probe and ball read; they are never written to the stream. One is [H], or
    [C, H] by the number of items: its last row stands for more of them. The ``ball`` bounds
    coefficients above 0.
    """

    direction: Tensor
    input_weight: Tensor
    input_bias: Tensor
    output_weight: Tensor
    output_bias: float
    floor: float
    ceiling: float
    risk_weight: Tensor
    risk_bias: float
    offsets: Mapping[str, Tensor] = field(default_factory=dict)
    ball: Ball | None = None

    @property
    def hidden_units(self) -> int:
        """Width ``D`` of the perceptron."""
        return int(self.input_weight.shape[0])

    @classmethod
    def static(cls, direction: Tensor, coefficient: float) -> LayerSteering:
        """A constant coefficient in residual-stream units, with a silent risk probe."""
        size = direction.shape[0]
        empty = torch.zeros(0)
        return cls(
            direction=direction.float(),
            input_weight=torch.zeros(0, size),
            input_bias=empty,
            output_weight=empty,
            output_bias=coefficient,
            floor=min(0.0, coefficient),
            ceiling=max(0.0, coefficient),
            risk_weight=torch.zeros(size),
            risk_bias=0.0,
        )

    def offset(self, media: Collection[str]) -> Tensor:
        """What re-centring subtracts [H] for ``media``, one for each item of a request.

        Those without an offset move nothing.
        """
        counts = Counter(media)
        present = [
            by_count.view(-1, self.direction.shape[0])[:count][-1]
            for medium, by_count in self.offsets.items()
            if (count := counts[medium])
        ]
        return torch.stack(present).sum(0) if present else torch.zeros_like(self.direction)

    def coefficient(self, hidden: Tensor, media: Collection[str] = ()) -> Tensor:
        """Coefficients [...] of residual rows [..., H], computed in float32."""
        hidden = hidden.float() - self.offset(media)
        units = torch.relu(hidden @ self.input_weight.T + self.input_bias)
        raw = (units * self.output_weight).sum(-1) + self.output_bias
        earned = raw.clamp(self.floor, self.ceiling)
        if self.ball is None:
            return earned
        return earned.minimum(self.ball.room(hidden, self.direction))

    def risk_logit(self, hidden: Tensor, media: Collection[str] = ()) -> Tensor:
        """Risk logits [...] of residual rows [..., H], computed in float32."""
        return (hidden.float() - self.offset(media)) @ self.risk_weight + self.risk_bias
