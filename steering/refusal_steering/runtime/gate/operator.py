"""The operator of one probed layer: read every row, and complete the scores that can be.

It runs ahead of the steering operator of the same layer. It changes nothing in the residual
stream; what it writes are the cells beside the cache and the state of the gate. Only the state is
part of its signature, because it orders reading before pushing; the cells are nobody else's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from refusal_steering.runtime.forms.layer import Rows
from refusal_steering.runtime.gate import padded
from refusal_steering.runtime.gate.bank import READ, GateBank
from refusal_steering.runtime.gate.buffers import GateBuffers, LiveStep
from refusal_steering.runtime.gate.pooling import conclude

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
    bank, live = buffers.bank, buffers.live
    if bank.cells is None:
        # The engine measures its memory before it has a key-value cache.
        return
    captured = hidden.shape[0] <= buffers.graph_rows
    if not captured and live is None:
        return
    rows = Rows(hidden, residual)
    if captured and buffers.fused:
        _read_captured(rows, place, buffers)
    elif captured:
        padded.read(rows, state, place, buffers)
    elif live is not None:
        _read_live(rows, state, place, buffers, live)


_LIBRARY.impl("read", _read, "CompositeExplicitAutograd")
torch.library.register_fake("refusal_steering::read", lambda *_: None, lib=_LIBRARY)


def _read_captured(rows: Rows, place: int, buffers: GateBuffers) -> None:
    """The captured form in Triton: padding rows leave at once, as do prompts that do not end."""
    from refusal_steering.runtime.gate import fused

    count, sizes = rows.hidden.shape[0], buffers.bank.sizes
    fused.probe(rows, buffers.bank, place, buffers.rows[0, :count])
    if sizes.layers[place] in sizes.ends:
        fused.conclude(buffers, count)


def _read_live(rows: Rows, state: Tensor, place: int, buffers: GateBuffers, live: LiveStep) -> None:
    """The host-driven form: only the gates that are loaded, only the prompts that end."""
    bank = buffers.bank
    if buffers.fused:
        from refusal_steering.runtime.gate import fused

        fused.probe(rows, bank, place, live.cells)
    else:
        _probe(rows, place, bank, live)
    for group in live.groups.get(bank.sizes.layers[place], ()):
        uses, shares = bank.uses[group.gate_slot], bank.shares[group.gate_slot]
        ramp = bank.ramp.index_select(0, group.variant)
        entries = conclude(group.pooled(bank), uses, shares, ramp)
        state.index_copy_(0, group.request_slot, entries)


def _probe(rows: Rows, place: int, bank: GateBank, live: LiveStep) -> None:
    assert bank.cells is not None
    columns = live.used * READ
    stream = padded.stream(rows, live.cells.shape[0])
    read = torch.addmm(bank.bias[place, :columns], stream, bank.weight[place, :columns].T)
    target = bank.cells[:, place, : live.used]
    target.index_copy_(0, live.cells, read.view(-1, live.used, READ))


OP = torch.ops.refusal_steering.read.default
