"""Pooling what the probes read: over any part of a prompt, and over parts that were read apart.

The maximum of a union is the larger maximum; the attention keeps its largest exponent, the mass
and the load under it, which merge as in flash attention. NaN, a token that was not read, spreads
to the result and is never taken for a number.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from refusal_steering.runtime.gate.bank import QUERY, SCORE, VALUE

_LEAST = torch.finfo(torch.float32).min


class Pooled(NamedTuple):
    """Parts of ``P`` prompts in ``L`` layers, float32.

    ``top`` and ``at`` [P, L + 1] are the highest scores and their positions; the last column is
    of the mean over layers. ``exponent``, ``mass`` and ``load`` [P, L] are the attention's.
    """

    top: Tensor
    at: Tensor
    exponent: Tensor
    mass: Tensor
    load: Tensor


def nothing(prompts: int, layers: int, device: torch.device) -> Tensor:
    """The pooled values of no token at all, in one tensor; see :func:`columns`."""
    top, at, exponent, rest = layers + 1, layers + 1, layers, 2 * layers
    row = [-torch.inf] * top + [-1.0] * at + [-torch.inf] * exponent + [0.0] * rest
    return torch.tensor(row, dtype=torch.float32, device=device).repeat(prompts, 1)


def columns(packed: Tensor) -> Pooled:
    """Views of pooled values that stand side by side in the rows of one tensor."""
    layers = (packed.shape[1] - 2) // 5
    return Pooled(*packed.split([layers + 1, layers + 1, layers, layers, layers], dim=1))


def pool(values: Tensor, counted: Tensor, positions: Tensor, shares: Tensor) -> Pooled:
    """Pool values [P, N, L, 3] of tokens at ``positions`` [P, N] that are ``counted`` [P, N].

    ``shares`` [L] or [P, L] are the layers' factors in a mean. Layers without one may not have been
    read yet, and do not matter.
    """
    out = ~counted.unsqueeze(-1)
    values = values.masked_fill((shares == 0.0).unsqueeze(-2).unsqueeze(-1), 0.0)
    scores = values[..., SCORE]
    mean = (scores * shares.unsqueeze(-2)).sum(-1, keepdim=True)
    top, place = torch.cat((scores, mean), -1).masked_fill(out, -torch.inf).max(1)
    at = positions.gather(1, place).float()
    queries = values[..., QUERY].masked_fill(out, -torch.inf)
    exponent = queries.amax(1)
    # Of no token the largest exponent is -inf, and -inf - -inf would be NaN.
    weights = (queries - exponent.clamp(min=_LEAST).unsqueeze(1)).exp()
    load = (weights * values[..., VALUE].masked_fill(out, 0.0)).sum(1)
    return Pooled(top, at, exponent, weights.sum(1), load)


def merge(earlier: Pooled, later: Pooled) -> Pooled:
    """Two parts of the same prompts as one; of equal scores the earlier position is kept."""
    exponent = torch.maximum(earlier.exponent, later.exponent)
    base = exponent.clamp(min=_LEAST)
    left, right = (earlier.exponent - base).exp(), (later.exponent - base).exp()
    return Pooled(
        top=torch.maximum(earlier.top, later.top),
        at=torch.where(later.top > earlier.top, later.at, earlier.at),
        exponent=exponent,
        mass=earlier.mass * left + later.mass * right,
        load=earlier.load * left + later.load * right,
    )


def conclude(pooled: Pooled, uses: Tensor, shares: Tensor, ramp: Tensor) -> Tensor:
    """State rows [P, 4 + 2L] of whole prompts, as :class:`~.bank.GateBank` names them.

    ``uses`` [P, 2] or [2], ``shares`` [P, L] or [L], ``ramp`` [P, 2].
    """
    count = pooled.mass.shape[1]
    attention = pooled.load / pooled.mass
    layers = uses[..., :1] * pooled.top[:, :count] + uses[..., 1:] * attention
    total = (layers * shares).sum(-1)
    opening = ((total - ramp[:, 0]) / ramp[:, 1]).clamp(0.0, 1.0)
    head = torch.stack((total, opening, pooled.at[:, count], pooled.top[:, count]), dim=1)
    return torch.cat((head, layers, pooled.at[:, :count]), dim=1)
