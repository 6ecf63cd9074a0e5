"""The operator in Triton: one program a row, which leaves at once where it has nothing to do.

``steer`` is two launches. :func:`earn` reads the rows that compute and writes their entries of the
state table; :func:`push` adds to the rows what the table holds for them. Only the bundle slot of
a row is read, and of that no more hidden units than its bundle has. A step's table of rows may lie
at any address, which must not make another compilation of them. The formula is that of
``forms.arithmetic`` and of ``LayerSteering``; sums over a row may be taken in another order.
"""

from __future__ import annotations

import triton
import triton.language as tl

# What is a constant here must be one for the compiler; tests hold these to the torch form's.
AT = tl.constexpr(0)
REQUEST_SLOT = tl.constexpr(1)
OWNER = tl.constexpr(2)
BUNDLE_SLOT = tl.constexpr(3)
VARIANT = tl.constexpr(4)
COMPUTES = tl.constexpr(5)
STRENGTH = tl.constexpr(6)
MAX_DOSE = tl.constexpr(7)
COLUMNS = tl.constexpr(8)
MEDIA_MIXES = tl.constexpr(125)
MEDIA = tl.constexpr(3)
COUNTS = tl.constexpr(5)
MOST_COUNTED = tl.constexpr(4)
BALL_ROWS = tl.constexpr(13)
SCALARS = tl.constexpr(4)
ROWS = tl.constexpr(2)
OPENING = tl.constexpr(1)
ALL = tl.constexpr(tl.PropagateNan.ALL)
TINY = tl.constexpr(1.1754943508222875e-38)


@triton.jit
def _stream(
    x_at: tl.tensor, r_at: tl.tensor, at: tl.tensor, inside: tl.tensor, HAS_RESIDUAL: tl.constexpr
) -> tl.tensor:
    """A part of a row of the residual stream, in float32."""
    x = tl.load(x_at + at, inside, 0.0).to(tl.float32)
    if HAS_RESIDUAL:
        x += tl.load(r_at + at, inside, 0.0).to(tl.float32)
    return x


@triton.jit
def _seen(
    x: tl.tensor,
    at: tl.tensor,
    inside: tl.tensor,
    ball: tl.tensor,
    slot: tl.tensor,
    mix: tl.tensor,
    size: tl.tensor,
) -> tl.tensor:
    """What is left of ``x`` without the centre of the slot's ball and the offsets of its media."""
    base = slot * BALL_ROWS
    x -= tl.load(ball + base * size + at, inside, 0.0)
    for place in tl.static_range(MEDIA):
        count = mix % COUNTS
        mix = mix // COUNTS
        # Row 0 is bundle slot 0's, which is zero for ever.
        row = tl.where(count > 0, base + place * MOST_COUNTED + count, 0)
        x -= tl.load(ball + row * size + at, inside, 0.0)
    return x


@triton.jit
def _room(
    x_at: tl.tensor,
    r_at: tl.tensor,
    ball: tl.tensor,
    slot: tl.tensor,
    mix: tl.tensor,
    unit_at: tl.tensor,
    limit: tl.tensor,
    size: tl.tensor,
    BLOCK: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
) -> tl.tensor:
    """How far a row may move along its slot's direction and stay in its ball."""
    lane = tl.arange(0, BLOCK)
    dots = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, size, BLOCK):
        at = start + lane
        inside = at < size
        seen = _seen(
            _stream(x_at, r_at, at, inside, HAS_RESIDUAL), at, inside, ball, slot, mix, size
        )
        dots += seen * tl.load(unit_at + at, inside, 0.0)
    along = tl.sum(dots, 0)
    # Read again: the part across is exact only where the part along is taken off before squaring.
    squares = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, size, BLOCK):
        at = start + lane
        inside = at < size
        seen = _seen(
            _stream(x_at, r_at, at, inside, HAS_RESIDUAL), at, inside, ball, slot, mix, size
        )
        left = seen - along * tl.load(unit_at + at, inside, 0.0)
        squares += left * left
    across = tl.sqrt(tl.sum(squares, 0))
    half = tl.maximum((limit - across) * (limit + across), 0.0, propagate_nan=ALL)
    return tl.maximum(tl.sqrt(half) - along, 0.0, propagate_nan=ALL)


@triton.jit
def _opening(gate: tl.tensor, floor: tl.tensor) -> tl.tensor:
    """How far a gate is open.

    Where there is no score the answer is withheld; NaN must not reach the stream before.
    """
    opening = tl.load(gate)
    return tl.maximum(tl.where(opening == opening, opening, 1.0), tl.load(floor))


@triton.jit(do_not_specialize_on_alignment=["state", "entries"])
def earn(
    hidden: tl.tensor,
    residual: tl.tensor,
    state: tl.tensor,
    entries: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    output: tl.tensor,
    scalars: tl.tensor,
    direction: tl.tensor,
    gate: tl.tensor,
    floor: tl.tensor,
    ball: tl.tensor,
    radius: tl.tensor,
    hidden_stride: tl.tensor,
    residual_stride: tl.tensor,
    state_stride: tl.tensor,
    gate_stride: tl.tensor,
    size: tl.tensor,
    UNITS: tl.constexpr,
    UNIT_BLOCK: tl.constexpr,
    BLOCK: tl.constexpr,
    ROOM_BLOCK: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    HAS_GATE: tl.constexpr,
    HAS_BALL: tl.constexpr,
) -> None:
    """The entries of the rows that compute: coefficient, risk logit, no rows yet, dose."""
    mine = entries + tl.program_id(0) * COLUMNS
    if tl.load(mine + COMPUTES) == 0:
        return
    row = tl.load(mine + AT).to(tl.int64)
    slot = tl.load(mine + BUNDLE_SLOT).to(tl.int64)
    variant = tl.load(mine + VARIANT).to(tl.int64)
    x_at = hidden + row * hidden_stride
    r_at = residual + row * residual_stride
    used = tl.load(scalars + slot * SCALARS + 3).to(tl.int32)
    unit = tl.arange(0, UNIT_BLOCK)
    live = unit < used
    probe = weight + slot * (1 + UNITS) * size
    w_at = probe + (1 + unit[:, None]) * size
    lane = tl.arange(0, BLOCK)
    units = tl.zeros((UNIT_BLOCK, BLOCK), tl.float32)
    risks = tl.zeros((BLOCK,), tl.float32)
    squares = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, size, BLOCK):
        at = start + lane
        inside = at < size
        x = _stream(x_at, r_at, at, inside, HAS_RESIDUAL)
        squares += x * x
        risks += tl.load(probe + at, inside, 0.0) * x
        units += tl.load(w_at + at[None, :], live[:, None] & inside[None, :], 0.0) * x[None, :]
    b_at = bias + variant * (1 + UNITS)
    read = tl.sum(units, 1) + tl.load(b_at + 1 + unit, live, 0.0)
    share = tl.load(output + slot * UNITS + unit, live, 0.0)
    earned = tl.sum(tl.maximum(read, 0.0, propagate_nan=ALL) * share, 0)
    limits = scalars + slot * SCALARS
    earned = tl.maximum(earned + tl.load(limits), tl.load(limits + 1), propagate_nan=ALL)
    earned = tl.minimum(earned, tl.load(limits + 2), propagate_nan=ALL)
    if HAS_BALL:
        limit = tl.load(radius + slot)
        if limit < float("inf"):
            mix = variant - slot * MEDIA_MIXES
            unit_at = direction + slot * size
            room = _room(
                x_at, r_at, ball, slot, mix, unit_at, limit, size, ROOM_BLOCK, HAS_RESIDUAL
            )
            earned = tl.minimum(earned, room, propagate_nan=ALL)
    if HAS_GATE:
        owner = tl.load(mine + OWNER).to(tl.int64)
        earned *= _opening(gate + owner * gate_stride + OPENING, floor + slot)
    length = tl.sqrt(tl.sum(squares, 0))
    max_dose = tl.load(mine + MAX_DOSE).to(tl.float32, bitcast=True)
    # No bound on a row of length 0 is inf * 0, which must stay no bound.
    bound = tl.where(max_dose == float("inf"), float("inf"), max_dose * length)
    bound = tl.where(bound == bound, bound, float("inf"))
    earned = tl.minimum(earned, bound, propagate_nan=ALL)
    earned = tl.maximum(earned, -bound, propagate_nan=ALL)
    entry = state + tl.load(mine + REQUEST_SLOT).to(tl.int64) * state_stride
    tl.store(entry, earned)
    tl.store(entry + 1, tl.sum(risks, 0) + tl.load(b_at))
    tl.store(entry + 2, 0.0)
    tl.store(entry + 3, tl.abs(earned) / tl.maximum(length, TINY))


@triton.jit(do_not_specialize_on_alignment=["state", "entries"])
def push(
    hidden: tl.tensor,
    state: tl.tensor,
    entries: tl.tensor,
    direction: tl.tensor,
    hidden_stride: tl.tensor,
    state_stride: tl.tensor,
    size: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:
    """Count the steered rows, and add to them what their request slots hold."""
    mine = entries + tl.program_id(0) * COLUMNS
    owner = tl.load(mine + OWNER).to(tl.int64)
    if owner == 0:
        return
    if tl.program_id(1) == 0:
        tl.atomic_add(state + owner * state_stride + ROWS, 1.0)
    held = tl.load(state + tl.load(mine + REQUEST_SLOT).to(tl.int64) * state_stride)
    amount = held * tl.load(mine + STRENGTH).to(tl.float32, bitcast=True)
    if amount == 0.0:
        return
    slot = tl.load(mine + BUNDLE_SLOT).to(tl.int64)
    x_at = hidden + tl.load(mine + AT).to(tl.int64) * hidden_stride
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    change = amount * tl.load(direction + slot * size + at, inside, 0.0)
    x = tl.load(x_at + at, inside, 0.0)
    # The change is rounded to the stream's type before it is added, as in the torch form.
    pushed = x.to(tl.float32) + change.to(x.dtype).to(tl.float32)
    tl.store(x_at + at, pushed.to(x.dtype), inside)
