"""The host-driven form in torch: touches the steered rows only."""

from __future__ import annotations

import torch
from torch import Tensor

from refusal_steering.runtime.bank import COEFFICIENT, ROWS
from refusal_steering.runtime.buffers import Earning, LiveRows
from refusal_steering.runtime.forms.arithmetic import entry, opening, room, stream
from refusal_steering.runtime.forms.layer import Rows, Tables


def steer(rows: Rows, tables: Tables, live: LiveRows) -> None:
    """Steer the ``live`` rows of ``hidden`` [T, H] in place."""
    hidden, state = rows.hidden, tables.state
    for earning in live.earning:
        state.index_copy_(0, earning.request_slot, _earned(rows, tables, earning))
    state.select(1, ROWS).index_add_(0, live.owner, live.ones)
    if live.silent:
        return
    amount = state.select(1, COEFFICIENT).index_select(0, live.request_slot) * live.strength
    if live.only_bundle_slot is None:
        change = amount.unsqueeze(1) * tables.direction.index_select(0, live.bundle_slot)
    else:
        change = torch.outer(amount, tables.direction[live.only_bundle_slot])
    if live.whole_batch and hidden.shape[0] == change.shape[0]:
        hidden.add_(change.to(hidden.dtype))
    else:
        hidden.index_add_(0, live.index, change.to(hidden.dtype))


def _earned(rows: Rows, tables: Tables, earning: Earning) -> Tensor:
    """State table entries [m, 4] of the rows of one bundle slot and mix of media."""
    bundle_slot, block = earning.bundle_slot, 1 + tables.output.shape[1]
    part = slice(bundle_slot * block, (bundle_slot + 1) * block)
    every_row = earning.whole_batch and len(rows.hidden) == len(earning.index)
    read = stream(rows, None if every_row else earning.index)
    units = torch.addmm(tables.bias[earning.variant], read, tables.weight[part].T)
    offset, floor, ceiling, _ = tables.scalars[bundle_slot].unbind()
    raw = torch.addmv(offset.expand(len(units)), units[:, 1:].relu(), tables.output[bundle_slot])
    coefficient, risk = raw.clamp(floor, ceiling), units[:, 0]
    if tables.ball is not None and tables.radius is not None:
        slots = torch.full_like(earning.request_slot, bundle_slot)
        variants = torch.full_like(slots, earning.variant)
        balls = (tables.ball, tables.radius)
        coefficient = coefficient.minimum(room(read, slots, variants, tables.direction, balls))
    if tables.gate is not None and earning.gated_by is not None:
        coefficient = coefficient * opening(tables.gate, earning.gated_by)
    return entry(read, coefficient, risk, earning.max_dose)
