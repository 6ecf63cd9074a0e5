"""The operator of one probed layer: read every row, and complete the scores that can be.

It runs ahead of the steering operator of the same layer. It changes nothing in the residual
stream; what it writes are the cells beside the cache and the state of the gate. Only the state is
part of its signature, because it orders reading before pushing; the cells are nobody else's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from refusal_steering.runtime.gate.bank import READ, GateBank
from refusal_steering.runtime.gate.buffers import GateBuffers, LiveStep
from refusal_steering.runtime.gate.pooling import columns, conclude, merge, pool

# Opaque operators carry tensors and integers only; an engine's Python state is found by number.
_ENGINES: dict[int, GateBuffers] = {}

_SCHEMA = "read(Tensor hidden, Tensor? residual, Tensor(a!) state, int place, int engine) -> ()"
_LIBRARY = torch.library.Library("refusal_steering", "FRAGMENT")
_LIBRARY.define(_SCHEMA)


def register_engine(buffers: GateBuffers) -> int:
    """Give an engine's gate buffers a number for the operator; equal in every process."""
    number = next(n for n in range(len(_ENGINES) + 1) if n not in _ENGINES)
    _ENGINES[number] = buffers
    return number


def _read(hidden: Tensor, residual: Tensor | None, state: Tensor, place: int, engine: int) -> None:
    buffers = _ENGINES[engine]
    bank = buffers.bank
    if bank.cells is None:
        # The engine measures its memory before it has a key-value cache.
        return
    if hidden.shape[0] <= buffers.graph_rows:
        _read_padded(hidden, residual, state, place, buffers, bank.cells)
    elif buffers.live is not None:
        _read_live(hidden, residual, state, place, bank, buffers.live)


_LIBRARY.impl("read", _read, "CompositeExplicitAutograd")
torch.library.register_fake("refusal_steering::read", lambda *_: None, lib=_LIBRARY)


def _read_live(
    hidden: Tensor,
    residual: Tensor | None,
    state: Tensor,
    place: int,
    bank: GateBank,
    live: LiveStep,
) -> None:
    """The host-driven form: only the gates that are loaded, only the prompts that end."""
    assert bank.cells is not None
    columns = live.used * READ
    rows = _stream(hidden, residual, live.cells.shape[0])
    read = torch.addmm(bank.bias[place, :columns], rows, bank.weight[place, :columns].T)
    target = bank.cells[:, place, : live.used]
    target.index_copy_(0, live.cells, read.view(-1, live.used, READ))
    for group in live.groups.get(bank.sizes.layers[place], ()):
        uses, shares = bank.uses[group.gate_slot], bank.shares[group.gate_slot]
        ramp = bank.ramp.index_select(0, group.bundle_slot)
        entries = conclude(group.pooled(bank), uses, shares, ramp)
        state.index_copy_(0, group.request_slot, entries)


def _read_padded(
    hidden: Tensor,
    residual: Tensor | None,
    state: Tensor,
    place: int,
    buffers: GateBuffers,
    cells: Tensor,
) -> None:
    """The captured form: fixed shapes, no host state, padding rows write the trash cell."""
    bank, count = buffers.bank, hidden.shape[0]
    cell, position = buffers.rows[:, :count]
    rows = _stream(hidden, residual, count)
    read = torch.addmm(bank.bias[place], rows, bank.weight[place].T)
    cells[:, place].index_copy_(0, cell, read.view(count, -1, READ))
    if bank.sizes.layers[place] not in bank.sizes.ends:
        return
    request_slot, bundle_slot, gate_slot = buffers.lanes[:, :count]
    lanes = request_slot.shape[0]
    # [lanes, rows, layers, 3]: every lane sees all rows through its own gate and takes its own.
    values = cells.index_select(0, cell).permute(2, 0, 1, 3).index_select(0, gate_slot)
    counted = buffers.counted[:lanes, :count]
    shares = bank.shares.index_select(0, gate_slot)
    now = pool(values, counted, position.expand(lanes, count), shares)
    pooled = merge(columns(buffers.carry[:lanes]), now)
    uses, ramp = bank.uses.index_select(0, gate_slot), bank.ramp.index_select(0, bundle_slot)
    state.index_copy_(0, request_slot, conclude(pooled, uses, shares, ramp))


def _stream(hidden: Tensor, residual: Tensor | None, count: int) -> Tensor:
    rows = hidden[:count].float()
    return rows if residual is None else rows + residual[:count].float()


OP = torch.ops.refusal_steering.read.default
