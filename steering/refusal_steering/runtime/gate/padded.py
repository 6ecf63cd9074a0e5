"""The captured form of reading in torch: fixed shapes, no host state.

Padding rows write the trash cell.
"""

from __future__ import annotations

import torch
from torch import Tensor

from refusal_steering.runtime.forms.layer import Rows
from refusal_steering.runtime.gate.bank import READ
from refusal_steering.runtime.gate.buffers import GateBuffers
from refusal_steering.runtime.gate.pooling import columns, conclude, merge, pool


def read(rows: Rows, state: Tensor, place: int, buffers: GateBuffers) -> None:
    """Read the rows of a step, and complete the scores that can be behind this layer."""
    bank, count = buffers.bank, rows.hidden.shape[0]
    cells = bank.cells
    assert cells is not None
    cell, position = buffers.rows[:, :count]
    found = torch.addmm(bank.bias[place], stream(rows, count), bank.weight[place].T)
    cells[:, place].index_copy_(0, cell, found.view(count, -1, READ))
    if bank.sizes.layers[place] not in bank.sizes.ends:
        return
    request_slot, variant, gate_slot = buffers.lanes[:, :count]
    lanes = request_slot.shape[0]
    # [lanes, rows, layers, 3]: every lane sees all rows through its own gate and takes its own.
    values = cells.index_select(0, cell).permute(2, 0, 1, 3).index_select(0, gate_slot)
    counted = buffers.counted[:lanes, :count]
    shares = bank.shares.index_select(0, gate_slot)
    now = pool(values, counted, position.expand(lanes, count), shares)
    pooled = merge(columns(buffers.carry[:lanes]), now)
    uses, ramp = bank.uses.index_select(0, gate_slot), bank.ramp.index_select(0, variant)
    state.index_copy_(0, request_slot, conclude(pooled, uses, shares, ramp))


def stream(rows: Rows, count: int) -> Tensor:
    """The residual stream [count, H] float32 of the first rows."""
    first = rows.hidden[:count].float()
    return first if rows.residual is None else first + rows.residual[:count].float()
