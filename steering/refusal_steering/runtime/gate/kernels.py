"""The gate's operator in Triton: one launch reads all rows with all probes, one pools prompts.

:func:`probe` keeps what the probes of every loaded gate read of a row beside the key-value cache.
:func:`conclude` pools the prompts that a captured step completes, as ``gate.pooling`` does.
Programs leave at once where a row is padding or no prompt ends.
"""

from __future__ import annotations

import triton
import triton.language as tl

# What is a constant here must be one for the compiler; tests hold these to the torch form's.
READ = tl.constexpr(3)
TRASH_SLOT = tl.constexpr(1)
HEAD = tl.constexpr(4)
LEAST = tl.constexpr(-3.4028234663852886e38)


@triton.jit(do_not_specialize_on_alignment=["cells", "cell_of", "bias"])
def probe(
    hidden: tl.tensor,
    residual: tl.tensor,
    cells: tl.tensor,
    cell_of: tl.tensor,
    weight: tl.tensor,
    bias: tl.tensor,
    loaded: tl.tensor,
    hidden_stride: tl.tensor,
    residual_stride: tl.tensor,
    cell_stride: tl.tensor,
    trash: tl.tensor,
    size: tl.tensor,
    PROBES: tl.constexpr,
    PROBE_BLOCK: tl.constexpr,
    BLOCK: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
) -> None:
    """Score, query and value of one row by every loaded gate, in one layer."""
    row = tl.program_id(0).to(tl.int64)
    cell = tl.load(cell_of + row)
    if cell == trash:
        return
    number = tl.arange(0, PROBE_BLOCK)
    live = (number < tl.load(loaded) * READ) & (number < PROBES)
    lane = tl.arange(0, BLOCK)
    read = tl.zeros((PROBE_BLOCK, BLOCK), tl.float32)
    for start in range(0, size, BLOCK):
        at = start + lane
        inside = at < size
        x = tl.load(hidden + row * hidden_stride + at, inside, 0.0).to(tl.float32)
        if HAS_RESIDUAL:
            x += tl.load(residual + row * residual_stride + at, inside, 0.0).to(tl.float32)
        w_at = weight + number[:, None] * size + at[None, :]
        read += tl.load(w_at, live[:, None] & inside[None, :], 0.0) * x[None, :]
    found = tl.sum(read, 1) + tl.load(bias + number, live, 0.0)
    tl.store(cells + cell * cell_stride + number, found, live)


@triton.jit(do_not_specialize=["rows"], do_not_specialize_on_alignment=["position_of"])
def conclude(
    cells: tl.tensor,
    cell_of: tl.tensor,
    position_of: tl.tensor,
    lanes: tl.tensor,
    counted: tl.tensor,
    carry: tl.tensor,
    state: tl.tensor,
    uses: tl.tensor,
    shares: tl.tensor,
    ramp: tl.tensor,
    cell_stride: tl.tensor,
    lane_stride: tl.tensor,
    counted_stride: tl.tensor,
    carry_stride: tl.tensor,
    state_stride: tl.tensor,
    rows: tl.tensor,
    GATES: tl.constexpr,
    LAYERS: tl.constexpr,
    LAYER_BLOCK: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """The state of one prompt that the step completes."""
    lane = tl.program_id(0).to(tl.int64)
    request_slot = tl.load(lanes + lane)
    if request_slot == TRASH_SLOT:
        return
    variant = tl.load(lanes + lane_stride + lane)
    gate = tl.load(lanes + 2 * lane_stride + lane)
    layer = tl.arange(0, LAYER_BLOCK)
    known = layer < LAYERS
    share = tl.load(shares + gate * LAYERS + layer, known, 0.0)
    read = known & (share != 0.0)
    # What was read of the prompt before this step.
    before = carry + lane * carry_stride
    top = tl.load(before + layer, known, 0.0)
    mean_top = tl.load(before + LAYERS)
    where = tl.load(before + LAYERS + 1 + layer, known, 0.0)
    mean_where = tl.load(before + 2 * LAYERS + 1)
    rest = before + 2 * LAYERS + 2
    exponent = tl.load(rest + layer, known, 0.0)
    mass = tl.load(rest + LAYERS + layer, known, 0.0)
    load = tl.load(rest + 2 * LAYERS + layer, known, 0.0)
    missing = (top != top) | (load != load) | (mass != mass)
    for start in range(0, rows, BLOCK):
        number = start + tl.arange(0, BLOCK)
        inside = number < rows
        mine = inside & (tl.load(counted + lane * counted_stride + number, inside, 0) != 0)
        cell = tl.load(cell_of + number, mine, 0)
        position = tl.load(position_of + number, mine, 0).to(tl.float32)
        at = cell[:, None] * cell_stride + layer[None, :] * (GATES * READ) + gate * READ
        here = mine[:, None] & read[None, :]
        score = tl.load(cells + at, here, 0.0)
        query = tl.load(cells + at + 1, here, 0.0)
        value = tl.load(cells + at + 2, here, 0.0)
        unread = (score != score) | (query != query) | (value != value)
        missing |= tl.max((unread & here).to(tl.int32), 0) > 0
        some = mine[:, None] & known[None, :]
        mean = tl.where(mine, tl.sum(score * share[None, :], 1), -float("inf"))
        score = tl.where(some, score, -float("inf"))
        # The first of equal scores is kept, here and when parts are merged.
        best = tl.max(score, 0)
        first = tl.min(tl.where(score == best[None, :], number[:, None], rows), 0)
        place = tl.sum(tl.where(number[:, None] == first[None, :], position[:, None], 0.0), 0)
        mean_best = tl.max(mean, 0)
        mean_first = tl.min(tl.where(mean == mean_best, number, rows), 0)
        mean_place = tl.sum(tl.where(number == mean_first, position, 0.0), 0)
        where = tl.where(best > top, place, where)
        top = tl.maximum(top, best)
        mean_where = tl.where(mean_best > mean_top, mean_place, mean_where)
        mean_top = tl.maximum(mean_top, mean_best)
        largest = tl.max(tl.where(some, query, -float("inf")), 0)
        highest = tl.maximum(exponent, largest)
        # Of no token the largest exponent is -inf, and -inf - -inf would be NaN.
        base = tl.maximum(highest, LEAST)
        weights = tl.where(some, tl.exp(query - base[None, :]), 0.0)
        left = tl.exp(exponent - base)
        mass = mass * left + tl.sum(weights, 0)
        load = load * left + tl.sum(weights * value, 0)
        exponent = highest
    attention = load / mass
    highest_use, attention_use = tl.load(uses + gate * 2), tl.load(uses + gate * 2 + 1)
    pooled = highest_use * top + attention_use * attention
    total = tl.sum(tl.where(read, pooled * share, 0.0), 0)
    lost = tl.max((missing & read).to(tl.int32), 0) > 0
    total = tl.where(lost, float("nan"), total)
    threshold, width = tl.load(ramp + variant * 2), tl.load(ramp + variant * 2 + 1)
    opening = tl.minimum(tl.maximum((total - threshold) / width, 0.0), 1.0)
    entry = state + request_slot * state_stride
    tl.store(entry, total)
    tl.store(entry + 1, tl.where(total == total, opening, float("nan")))
    tl.store(entry + 2, mean_where)
    tl.store(entry + 3, mean_top)
    tl.store(entry + HEAD + layer, pooled, known)
    tl.store(entry + HEAD + LAYERS + layer, where, known)
