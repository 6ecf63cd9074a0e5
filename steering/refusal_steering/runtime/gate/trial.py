"""A trial of the gate's form in Triton: one small captured step, next to the torch form."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from refusal_steering.runtime.forms.layer import Rows
from refusal_steering.runtime.gate import padded
from refusal_steering.runtime.gate.bank import GateBank, GateSizes
from refusal_steering.runtime.gate.buffers import GateBuffers
from refusal_steering.runtime.plan import FIRST_SLOT
from refusal_steering.runtime.transfer import put

_ROWS, _TOKENS, _STATE_ROWS = 8, 6, 6
_FITS = 1e-3


def problem_of_triton(
    sizes: GateSizes, hidden_size: int, dtype: torch.dtype, device: torch.device
) -> str | None:
    """What is wrong with the gate's form in Triton on ``device``; ``None`` where nothing is."""
    from refusal_steering.runtime.gate import fused

    one, other = (_prompt(sizes, hidden_size, device) for _ in range(2))
    random = torch.Generator().manual_seed(1)
    for place in range(len(sizes.layers)):
        hidden = torch.randn(_ROWS, hidden_size, generator=random).to(dtype).to(device)
        rows = Rows(hidden, torch.randn(hidden.shape, generator=random).to(hidden))
        fused.probe(rows, one.bank, place, one.rows[0, :_ROWS])
        padded.read(rows, other.bank.state, place, other)
    fused.conclude(one, _ROWS)
    found = {
        "readings are": (_cells(one), _cells(other)),
        "score is": (one.bank.state[FIRST_SLOT], other.bank.state[FIRST_SLOT]),
    }
    for what, (mine, wanted) in found.items():
        off = float((mine - wanted).abs().max() / wanted.abs().max())
        # Not "more than": what is no number must not pass.
        if not off <= _FITS:
            return f"a gate's {what} off by {off:.2g}, expected at most {_FITS:g}"
    return None


def _cells(buffers: GateBuffers) -> Tensor:
    assert buffers.bank.cells is not None
    return buffers.bank.cells[:_TOKENS]


def _prompt(sizes: GateSizes, hidden_size: int, device: torch.device) -> GateBuffers:
    """A step of six tokens of one prompt that ends, and two rows of padding."""
    layers = sizes.layers
    mine = GateSizes(layers, (layers[-1],), sizes.gates, requests=2)
    bank = GateBank(mine, 2, hidden_size, _STATE_ROWS, device)
    random = torch.Generator().manual_seed(0)
    for tensor in (bank.weight, bank.bias):
        tensor.copy_(torch.randn(tensor.shape, generator=random) / hidden_size**0.5)
    bank.uses.fill_(0.5)
    bank.shares.fill_(1.0 / len(layers))
    bank.loaded.fill_(sizes.gates)
    bank.open_cells(2, _TOKENS)
    buffers = GateBuffers(_ROWS, bank, partial(put, device))
    buffers.clear()
    buffers.rows[:, :_TOKENS] = torch.arange(_TOKENS, device=device)
    buffers.lanes[:, 0] = torch.tensor([FIRST_SLOT, 1, 0], device=device)
    buffers.counted[0, :_TOKENS] = True
    return buffers
