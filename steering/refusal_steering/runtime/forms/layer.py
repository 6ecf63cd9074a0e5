"""What one call of the operator works on: a layer's rows, its bank and the gates' state."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Rows(NamedTuple):
    """Token rows [T, H] of a layer; the residual stream is their sum with ``residual``, if any."""

    hidden: Tensor
    residual: Tensor | None


class Tables(NamedTuple):
    """The tensors of a :class:`~refusal_steering.runtime.bank.LayerBank`, by its names.

    ``state`` is the layer's part of the state table. ``gate`` is the state of the gates and
    ``floor`` [bundle_slots] their least opening, where prompts are read.
    """

    state: Tensor
    weight: Tensor
    bias: Tensor
    output: Tensor
    scalars: Tensor
    direction: Tensor
    gate: Tensor | None
    floor: Tensor | None
    ball: Tensor | None
    radius: Tensor | None
