"""The operator of one steered layer: earn coefficients, add them to the residual stream.

vLLM's decoder layers return ``(hidden, residual)`` whose sum is the residual stream. The stream
is read from the sum in float32; the change is added to ``hidden`` alone, in place. The operator
is opaque to ``torch.compile`` and captured by CUDA graphs; strength is data in its buffers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from refusal_steering.runtime.buffers import StepBuffers
from refusal_steering.runtime.forms import live, padded
from refusal_steering.runtime.forms.layer import Rows, Tables

# Opaque operators carry tensors and integers only; an engine's Python state is found by number.
_ENGINES: dict[int, StepBuffers] = {}

_SCHEMA = (
    "steer(Tensor(a!) hidden, Tensor? residual, Tensor(b!) states, int place, Tensor entries, "
    "Tensor weight, Tensor bias, Tensor output, Tensor scalars, Tensor direction, Tensor? gate, "
    "Tensor? floor, Tensor? ball, Tensor? radius, int engine) -> ()"
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
#     entries: request slot     3    5    0    0    0    2
#              owner            3    4    0    0    0    2
#              bundle slot      2    1    0    0    0    1
#              computes         0    1    0    0    0    1
#              strength         0.5  2.0  0    0    0    1.0
#
# First, rows 1 and 5 are read and earn coefficients under bundle slot 1, which go to entries 5 and
# 2 of the state table. Then the rows of owners 3, 4 and 2 are counted. Last, each row gets the
# coefficient of its request slot, times its strength, along the direction of its bundle slot: row 0
# gets what entry 3 has kept since b's last prompt token, and rows 2 to 4 get nothing, because
# entry 0 and bundle slot 0 are zero for ever. The live form does the same to rows 0, 1 and 5 alone.


def _steer(
    hidden: Tensor,
    residual: Tensor | None,
    states: Tensor,
    place: int,
    entries: Tensor,
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
    buffers, count = _ENGINES[engine], hidden.shape[0]
    captured = count <= buffers.graph_rows
    if not captured and buffers.live is None and buffers.compact is None:
        return
    bank = (weight, bias, output, scalars, direction)
    tables = Tables(states.select(1, place), *bank, gate, floor, ball, radius)
    rows = Rows(hidden, residual)
    if buffers.fused:
        from refusal_steering.runtime.forms import fused

        steered = entries[:count] if captured else buffers.compact
        assert steered is not None
        fused.steer(rows, tables, steered)
    elif captured:
        padded.steer(rows, tables, entries[:count])
    elif buffers.live is not None:
        live.steer(rows, tables, buffers.live)


_LIBRARY.impl("steer", _steer, "CompositeExplicitAutograd")
torch.library.register_fake("refusal_steering::steer", lambda *_: None, lib=_LIBRARY)

OP = torch.ops.refusal_steering.steer.default
