"""The operator of one steered layer: earn coefficients, add them to the residual stream.

vLLM's decoder layers return ``(hidden, residual)`` whose sum is the residual stream. The stream
is read from the sum in float32; the change is added to ``hidden`` alone, in place. The operator
is opaque to ``torch.compile`` and captured by CUDA graphs; strength is data in its buffers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from refusal_steering.runtime.bank import (
    BALL_ROWS,
    CEILING,
    COEFFICIENT,
    FLOOR,
    MEDIA_MIXES,
    OUTPUT_BIAS,
    ROWS,
)
from refusal_steering.runtime.buffers import LiveRows, StepBuffers
from refusal_steering.runtime.gate.bank import OPENING
from refusal_steering.terms import MEDIA, MOST_COUNTED

# Opaque operators carry tensors and integers only; an engine's Python state is found by number.
_ENGINES: dict[int, StepBuffers] = {}

_SCHEMA = (
    "steer(Tensor(a!) hidden, Tensor? residual, Tensor(b!) state, Tensor tokens, Tensor strength, "
    "Tensor computing, Tensor max_dose, Tensor weight, Tensor bias, Tensor output, Tensor scalars, "
    "Tensor direction, Tensor? gate, Tensor? floor, Tensor? ball, Tensor? radius, int engine) -> ()"
)
_LIBRARY = torch.library.Library("refusal_steering", "DEF")
_LIBRARY.define(_SCHEMA)


def register_engine(buffers: StepBuffers) -> int:
    """Give an engine's step buffers a number for the operator; equal in every process."""
    number = next(n for n in range(len(_ENGINES) + 1) if n not in _ENGINES)
    _ENGINES[number] = buffers
    return number


# The worked example of the plan on the device, with strengths 1.0 for a, 0.5 for b, 2.0 for c:
#
#     row of hidden             0    1    2    3    4    5
#     tokens: request slot      3    5    0    0    0    2
#             bundle slot       2    1    0    0    0    1
#             owner             3    4    0    0    0    2
#     strength                  0.5  2.0  0    0    0    1.0
#     computing: row index      1    5    then padding, which writes request slot 1
#                request slot   5    2
#                bundle slot    1    1
#                owner          4    2
#
# First, rows 1 and 5 are read and earn coefficients under bundle slot 1, which go to entries 5 and
# 2 of the state table. Then the rows of owners 3, 4 and 2 are counted. Last, each row gets the
# coefficient of its request slot, times its strength, along the direction of its bundle slot: row 0
# gets what entry 3 has kept since b's last prompt token, and rows 2 to 4 get nothing, because
# entry 0 and bundle slot 0 are zero for ever. The live form does the same to rows 0, 1 and 5 alone.


def _steer(
    hidden: Tensor,
    residual: Tensor | None,
    state: Tensor,
    tokens: Tensor,
    strength: Tensor,
    computing: Tensor,
    max_dose: Tensor,
    weight: Tensor,
    bias: Tensor,
    output: Tensor,
    scalars: Tensor,
    direction: Tensor,
    gate: Tensor | None,
    floor: Tensor | None,
    ball: Tensor | None,
    radius: Tensor | None,
    engine: int,
) -> None:
    buffers = _ENGINES[engine]
    bank = (weight, bias, output, scalars)
    balls = None if ball is None or radius is None else (ball, radius)
    if hidden.shape[0] > buffers.graph_rows:
        if buffers.live is not None:
            _steer_live(hidden, residual, state, bank, (direction, balls), gate, buffers.live)
    else:
        step = (tokens, strength, computing, max_dose)
        _steer_padded(hidden, residual, state, bank, (direction, balls), (gate, floor), step)


def _opening(gate: Tensor, owners: Tensor) -> Tensor:
    """How far the gates of ``owners`` [m] are open; wide open where there is no score.

    The answer to a prompt that was not read is withheld; NaN must not reach the stream before.
    """
    return gate.select(1, OPENING).index_select(0, owners).nan_to_num(nan=1.0)


_LIBRARY.impl("steer", _steer, "CompositeExplicitAutograd")
torch.library.register_fake("refusal_steering::steer", lambda *_: None, lib=_LIBRARY)


def _earn(
    stream: Tensor, bundle_slots: Tensor, variants: Tensor, bank: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    """Coefficients and risk logits [m] of float32 rows [m, H] and their bundle slots [m]."""
    weight, bias, output, scalars = bank
    count, units = output.shape
    hidden = torch.mm(stream, weight.T).view(-1, count, 1 + units)
    mine = hidden.gather(1, bundle_slots.view(-1, 1, 1).expand(-1, 1, 1 + units)).squeeze(1)
    mine = mine + bias.index_select(0, variants)
    limits = scalars.index_select(0, bundle_slots)
    raw = (mine[:, 1:].relu() * output.index_select(0, bundle_slots)).sum(-1) + limits[
        :, OUTPUT_BIAS
    ]
    return raw.maximum(limits[:, FLOOR]).minimum(limits[:, CEILING]), mine[:, 0]


def _room(
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
    across = (seen - along.unsqueeze(1) * unit).norm(dim=-1)
    limit = radius.index_select(0, bundle_slots)
    half: Tensor = ((limit - across) * (limit + across)).clamp(min=0.0).sqrt()
    return (half - along).clamp(min=0.0)


def _entry(stream: Tensor, coefficient: Tensor, risk: Tensor, max_dose: Tensor) -> Tensor:
    """State table entries [m, 4]; ``max_dose`` times the row's length bounds the coefficient."""
    length = stream.norm(dim=-1)
    # No bound on a row of length 0 is inf * 0, which must stay no bound.
    bound = (max_dose * length).nan_to_num(nan=torch.inf, posinf=torch.inf)
    kept = coefficient.minimum(bound).maximum(-bound)
    dose = kept.abs() / length.clamp(min=torch.finfo(torch.float32).tiny)
    return torch.stack((kept, risk, torch.zeros_like(risk), dose), dim=1)


def _steer_padded(
    hidden: Tensor,
    residual: Tensor | None,
    state: Tensor,
    bank: tuple[Tensor, ...],
    along: tuple[Tensor, tuple[Tensor, Tensor] | None],
    gates: tuple[Tensor | None, Tensor | None],
    step: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    """The captured form: fixed shapes, no host state, padding rows write the trash slot."""
    count = hidden.shape[0]
    tokens, strength, computing, max_dose = (tensor[..., :count] for tensor in step)
    index, request_slot, bundle_slot, variant, owner = computing
    stream = _stream(hidden, residual, index)
    coefficient, risk = _earn(stream, bundle_slot, variant, bank)
    (direction, balls), (gate, floor) = along, gates
    if balls is not None:
        room = _room(stream, bundle_slot, variant, direction, balls)
        coefficient = coefficient.minimum(room)
    if gate is not None and floor is not None:
        opening = _opening(gate, owner).maximum(floor.index_select(0, bundle_slot))
        coefficient = coefficient * opening
    state.index_copy_(0, request_slot, _entry(stream, coefficient, risk, max_dose))
    request_slots, bundle_slots, owners = tokens
    state.select(1, ROWS).index_add_(0, owners, torch.ones_like(strength))
    amount = state.select(1, COEFFICIENT).index_select(0, request_slots) * strength
    hidden.add_((amount.unsqueeze(1) * direction.index_select(0, bundle_slots)).to(hidden.dtype))


def _steer_live(
    hidden: Tensor,
    residual: Tensor | None,
    state: Tensor,
    bank: tuple[Tensor, ...],
    along: tuple[Tensor, tuple[Tensor, Tensor] | None],
    gate: Tensor | None,
    live: LiveRows,
) -> None:
    """The host-driven form: touches the steered rows only."""
    weight, bias, output, scalars = bank
    direction, balls = along
    block = 1 + output.shape[1]
    for earning in live.earning:
        bundle_slot = earning.bundle_slot
        part = slice(bundle_slot * block, (bundle_slot + 1) * block)
        stream = _stream(hidden, residual, earning.index)
        units = torch.addmm(bias[earning.variant], stream, weight[part].T)
        offset, floor, ceiling = scalars[bundle_slot].unbind()
        raw = torch.addmv(offset, units[:, 1:].relu(), output[bundle_slot])
        coefficient, risk = raw.clamp(floor, ceiling), units[:, 0]
        if balls is not None:
            slots = torch.full_like(earning.request_slot, bundle_slot)
            variants = torch.full_like(slots, earning.variant)
            room = _room(stream, slots, variants, direction, balls)
            coefficient = coefficient.minimum(room)
        if gate is not None and earning.gated_by is not None:
            coefficient = coefficient * _opening(gate, earning.gated_by)
        entry = _entry(stream, coefficient, risk, earning.max_dose)
        state.index_copy_(0, earning.request_slot, entry)
    state.select(1, ROWS).index_add_(0, live.owner, live.ones)
    if live.silent:
        return
    amount = state.select(1, COEFFICIENT).index_select(0, live.request_slot) * live.strength
    if live.only_bundle_slot is None:
        change = amount.unsqueeze(1) * direction.index_select(0, live.bundle_slot)
    else:
        change = torch.outer(amount, direction[live.only_bundle_slot])
    if live.whole_batch and hidden.shape[0] == change.shape[0]:
        hidden.add_(change.to(hidden.dtype))
    else:
        hidden.index_add_(0, live.index, change.to(hidden.dtype))


def _stream(hidden: Tensor, residual: Tensor | None, index: Tensor) -> Tensor:
    rows = hidden.index_select(0, index).float()
    return rows if residual is None else rows + residual.index_select(0, index).float()


OP = torch.ops.refusal_steering.steer.default
