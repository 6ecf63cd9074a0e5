"""The operator of one steered layer: earn coefficients, add them to the residual stream.

vLLM's decoder layers return ``(hidden, residual)`` whose sum is the residual stream. The stream
is read from the sum in float32; the change is added to ``hidden`` alone, in place. The operator
is opaque to ``torch.compile`` and captured by CUDA graphs; strength is data in its buffers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from refusal_steering.runtime.bank import (
    CEILING,
    COEFFICIENT,
    FLOOR,
    OUTPUT_BIAS,
    ROWS,
)
from refusal_steering.runtime.buffers import LiveRows, StepBuffers

# Opaque operators carry tensors and integers only; an engine's Python state is found by number.
_ENGINES: dict[int, StepBuffers] = {}

_SCHEMA = (
    "steer(Tensor(a!) hidden, Tensor? residual, Tensor(b!) ledger, Tensor tokens, Tensor gain, "
    "Tensor computing, Tensor reach, Tensor weight, Tensor bias, Tensor output, Tensor scalars, "
    "Tensor direction, int engine) -> ()"
)
_LIBRARY = torch.library.Library("refusal_steering", "DEF")
_LIBRARY.define(_SCHEMA)


def register_engine(buffers: StepBuffers) -> int:
    """Give an engine's step buffers a number for the operator; equal in every process."""
    number = next(n for n in range(len(_ENGINES) + 1) if n not in _ENGINES)
    _ENGINES[number] = buffers
    return number


def _steer(
    hidden: Tensor,
    residual: Tensor | None,
    ledger: Tensor,
    tokens: Tensor,
    gain: Tensor,
    computing: Tensor,
    reach: Tensor,
    weight: Tensor,
    bias: Tensor,
    output: Tensor,
    scalars: Tensor,
    direction: Tensor,
    engine: int,
) -> None:
    buffers = _ENGINES[engine]
    bank = (weight, bias, output, scalars)
    if hidden.shape[0] > buffers.graph_rows:
        if buffers.live is not None:
            _steer_live(hidden, residual, ledger, bank, direction, buffers.live)
    else:
        _steer_padded(hidden, residual, ledger, bank, direction, (tokens, gain, computing, reach))


_LIBRARY.impl("steer", _steer, "CompositeExplicitAutograd")
_LIBRARY._register_fake("steer", lambda *_: None)


def _earn(
    stream: Tensor, lanes: Tensor, variants: Tensor, bank: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    """Coefficients and risk logits [m] of float32 rows [m, H], per-row lanes and variants [m]."""
    weight, bias, output, scalars = bank
    count, units = output.shape
    hidden = torch.mm(stream, weight.T).view(-1, count, 1 + units)
    mine = hidden.gather(1, lanes.view(-1, 1, 1).expand(-1, 1, 1 + units)).squeeze(1)
    mine = mine + bias.index_select(0, variants)
    limits = scalars.index_select(0, lanes)
    raw = (mine[:, 1:].relu() * output.index_select(0, lanes)).sum(-1) + limits[:, OUTPUT_BIAS]
    return raw.maximum(limits[:, FLOOR]).minimum(limits[:, CEILING]), mine[:, 0]


def _entry(stream: Tensor, coefficient: Tensor, risk: Tensor, reach: Tensor) -> Tensor:
    """Ledger entries [m, 4]: the coefficient is kept within ``reach`` times the row's length."""
    length = stream.norm(dim=-1)
    # No bound on a row of length 0 is inf * 0, which must stay no bound.
    bound = (reach * length).nan_to_num(nan=torch.inf, posinf=torch.inf)
    kept = coefficient.minimum(bound).maximum(-bound)
    dose = kept.abs() / length.clamp(min=torch.finfo(torch.float32).tiny)
    return torch.stack((kept, risk, torch.zeros_like(risk), dose), dim=1)


def _steer_padded(
    hidden: Tensor,
    residual: Tensor | None,
    ledger: Tensor,
    bank: tuple[Tensor, ...],
    direction: Tensor,
    step: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    """The captured form: fixed shapes, no host state, padding rows write the trash slot."""
    count = hidden.shape[0]
    tokens, gain, computing, reach = (tensor[..., :count] for tensor in step)
    index, slot, lane, variant = computing
    stream = _stream(hidden, residual, index)
    coefficient, risk = _earn(stream, lane, variant, bank)
    ledger.index_copy_(0, slot, _entry(stream, coefficient, risk, reach))
    slots, lanes, owners = tokens
    ledger.select(1, ROWS).index_add_(0, owners, torch.ones_like(gain))
    amount = ledger.select(1, COEFFICIENT).index_select(0, slots) * gain
    hidden.add_((amount.unsqueeze(1) * direction.index_select(0, lanes)).to(hidden.dtype))


def _steer_live(
    hidden: Tensor,
    residual: Tensor | None,
    ledger: Tensor,
    bank: tuple[Tensor, ...],
    direction: Tensor,
    live: LiveRows,
) -> None:
    """The host-driven form: touches the steered rows only."""
    weight, bias, output, scalars = bank
    block = 1 + output.shape[1]
    for earning in live.earning:
        lane = earning.lane
        part = slice(lane * block, (lane + 1) * block)
        stream = _stream(hidden, residual, earning.index)
        units = torch.addmm(bias[earning.variant], stream, weight[part].T)
        offset, floor, ceiling = scalars[lane].unbind()
        raw = torch.addmv(offset, units[:, 1:].relu(), output[lane])
        coefficient, risk = raw.clamp(floor, ceiling), units[:, 0]
        entry = _entry(stream, coefficient, risk, earning.reach)
        ledger.index_copy_(0, earning.slot, entry)
    ledger.select(1, ROWS).index_add_(0, live.owner, live.ones)
    if live.silent:
        return
    amount = ledger.select(1, COEFFICIENT).index_select(0, live.slot) * live.gain
    if live.only_lane is None:
        change = amount.unsqueeze(1) * direction.index_select(0, live.lane)
    else:
        change = torch.outer(amount, direction[live.only_lane])
    if live.whole_batch and hidden.shape[0] == change.shape[0]:
        hidden.add_(change.to(hidden.dtype))
    else:
        hidden.index_add_(0, live.index, change.to(hidden.dtype))


def _stream(hidden: Tensor, residual: Tensor | None, index: Tensor) -> Tensor:
    rows = hidden.index_select(0, index).float()
    return rows if residual is None else rows + residual.index_select(0, index).float()


OP = torch.ops.refusal_steering.steer.default
