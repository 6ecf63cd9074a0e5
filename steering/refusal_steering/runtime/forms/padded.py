"""The captured form in torch: fixed shapes, no host state; the same work in every step.

Rows of zeros in ``entries`` are not steered: they earn what goes to the trash slot, and get what
the null slot holds.
"""

from __future__ import annotations

import torch
from torch import Tensor

from refusal_steering.runtime.bank import CEILING, COEFFICIENT, FLOOR, OUTPUT_BIAS, ROWS
from refusal_steering.runtime.buffers import (
    BUNDLE_SLOT,
    COMPUTES,
    MAX_DOSE,
    OWNER,
    REQUEST_SLOT,
    STRENGTH,
    VARIANT,
)
from refusal_steering.runtime.forms.arithmetic import entry, opening, room
from refusal_steering.runtime.forms.layer import Rows, Tables
from refusal_steering.runtime.plan import TRASH_SLOT


def steer(rows: Rows, tables: Tables, entries: Tensor) -> None:
    """Steer ``hidden`` [T, H] in place by ``entries`` [T, 8]."""
    hidden, state = rows.hidden, tables.state
    columns = entries.long().T
    request_slot, owner, bundle_slot = (columns[at] for at in (REQUEST_SLOT, OWNER, BUNDLE_SLOT))
    strength, max_dose = (entries[:, at].view(torch.float32) for at in (STRENGTH, MAX_DOSE))
    computes = columns[COMPUTES] > 0
    stream = hidden.float() if rows.residual is None else hidden.float() + rows.residual.float()
    coefficient, risk = _earn(stream, bundle_slot, columns[VARIANT], tables)
    if tables.ball is not None and tables.radius is not None:
        balls = (tables.ball, tables.radius)
        limit = room(stream, bundle_slot, columns[VARIANT], tables.direction, balls)
        coefficient = coefficient.minimum(limit)
    if tables.gate is not None and tables.floor is not None:
        floor = tables.floor.index_select(0, bundle_slot)
        coefficient = coefficient * opening(tables.gate, owner).maximum(floor)
    target = request_slot.where(computes, TRASH_SLOT)
    state.index_copy_(0, target, entry(stream, coefficient, risk, max_dose))
    state.select(1, ROWS).index_add_(0, owner, torch.ones_like(strength))
    amount = state.select(1, COEFFICIENT).index_select(0, request_slot) * strength
    change = amount.unsqueeze(1) * tables.direction.index_select(0, bundle_slot)
    hidden.add_(change.to(hidden.dtype))


def _earn(
    stream: Tensor, bundle_slots: Tensor, variants: Tensor, tables: Tables
) -> tuple[Tensor, Tensor]:
    """Coefficients and risk logits [m] of float32 rows [m, H] and their bundle slots [m]."""
    count, units = tables.output.shape
    hidden = torch.mm(stream, tables.weight.T).view(-1, count, 1 + units)
    mine = hidden.gather(1, bundle_slots.view(-1, 1, 1).expand(-1, 1, 1 + units)).squeeze(1)
    mine = mine + tables.bias.index_select(0, variants)
    limits = tables.scalars.index_select(0, bundle_slots)
    earned = (mine[:, 1:].relu() * tables.output.index_select(0, bundle_slots)).sum(-1)
    raw = earned + limits[:, OUTPUT_BIAS]
    return raw.maximum(limits[:, FLOOR]).minimum(limits[:, CEILING]), mine[:, 0]
