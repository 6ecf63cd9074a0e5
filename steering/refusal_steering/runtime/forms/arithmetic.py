"""The arithmetic that both forms in torch share, on float32 rows."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.linalg import vector_norm

from refusal_steering.runtime.bank import BALL_ROWS, MEDIA_MIXES
from refusal_steering.runtime.forms.layer import Rows
from refusal_steering.runtime.gate.bank import OPENING
from refusal_steering.terms import MEDIA, MOST_COUNTED


def stream(rows: Rows, index: Tensor | None) -> Tensor:
    """The residual stream [m, H] float32 of the rows ``index`` [m], or of all."""
    parts = [part for part in rows if part is not None]
    if index is not None:
        parts = [part.index_select(0, index) for part in parts]
    first = parts[0].float()
    # A sum with a number in half precision is exact in float32, without a copy of it.
    return first + parts[1] if len(parts) > 1 else first


def opening(gate: Tensor, owners: Tensor) -> Tensor:
    """How far the gates of ``owners`` [m] are open; wide open where there is no score.

    The answer to a prompt that was not read is withheld; NaN must not reach the stream before.
    """
    return gate.select(1, OPENING).index_select(0, owners).nan_to_num(nan=1.0)


def room(
    stream: Tensor,
    bundle_slots: Tensor,
    variants: Tensor,
    direction: Tensor,
    balls: tuple[Tensor, Tensor],
) -> Tensor:
    """How far float32 rows [m, H] may move and stay in their balls [m]; infinite without one."""
    ball, radius = balls
    seen = stream - ball.index_select(0, bundle_slots * BALL_ROWS)
    mix = variants - bundle_slots * MEDIA_MIXES
    for place in range(len(MEDIA)):
        count = mix.div((MOST_COUNTED + 1) ** place, rounding_mode="floor") % (MOST_COUNTED + 1)
        row = bundle_slots * BALL_ROWS + place * MOST_COUNTED + count
        # Row 0 is bundle slot 0's, which is zero for ever.
        seen = seen - ball.index_select(0, row.where(count > 0, 0))
    unit = direction.index_select(0, bundle_slots)
    along = (seen * unit).sum(-1)
    across = vector_norm(seen - along.unsqueeze(1) * unit, dim=-1)
    limit = radius.index_select(0, bundle_slots)
    half: Tensor = ((limit - across) * (limit + across)).clamp(min=0.0).sqrt()
    return (half - along).clamp(min=0.0)


def entry(stream: Tensor, coefficient: Tensor, risk: Tensor, max_dose: Tensor | None) -> Tensor:
    """State table entries [m, 4]; ``max_dose`` times the row's length bounds the coefficient."""
    length, kept = vector_norm(stream, dim=-1), coefficient
    if max_dose is not None:
        # No bound on a row of length 0 is inf * 0, which must stay no bound.
        bound = (max_dose * length).nan_to_num(nan=torch.inf, posinf=torch.inf)
        kept = coefficient.minimum(bound).maximum(-bound)
    dose = kept.abs() / length.clamp(min=torch.finfo(torch.float32).tiny)
    return torch.stack((kept, risk, torch.zeros_like(risk), dose), dim=1)
