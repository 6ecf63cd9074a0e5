"""The operator's form in Triton: at most two launches, for captured and other steps alike."""

from __future__ import annotations

from torch import Tensor

from refusal_steering.runtime.forms import kernels
from refusal_steering.runtime.forms.layer import Rows, Tables

# Numbers of a tile of weights that keep a program of so many warps below 64 registers.
_TILE, _WARPS = 2048, 8
_ROOM_BLOCK, _PUSH_BLOCK = 256, 1024


def steer(rows: Rows, tables: Tables, entries: Tensor) -> None:
    """Steer rows of ``hidden`` [T, H] in place by ``entries`` [n, 8]; nothing waits."""
    hidden, residual, state = rows.hidden, rows.residual, tables.state
    count, size = entries.shape[0], hidden.shape[1]
    _check(hidden, state, entries, *(() if residual is None else (residual,)))
    units = tables.output.shape[1]
    block = _power_of_two(units)
    gate, floor, ball, radius = tables.gate, tables.floor, tables.ball, tables.radius
    kernels.earn[(count,)](
        hidden,
        hidden if residual is None else residual,
        state,
        entries,
        tables.weight,
        tables.bias,
        tables.output,
        tables.scalars,
        tables.direction,
        state if gate is None else gate,
        state if floor is None else floor,
        state if ball is None else ball,
        state if radius is None else radius,
        hidden.stride(0),
        hidden.stride(0) if residual is None else residual.stride(0),
        state.stride(0),
        0 if gate is None else gate.stride(0),
        size,
        UNITS=units,
        UNIT_BLOCK=block,
        BLOCK=max(_TILE // block, 16),
        ROOM_BLOCK=_ROOM_BLOCK,
        HAS_RESIDUAL=residual is not None,
        HAS_GATE=gate is not None and floor is not None,
        HAS_BALL=ball is not None and radius is not None,
        num_warps=_WARPS,
    )
    push = min(_PUSH_BLOCK, _power_of_two(size))
    kernels.push[(count, -(-size // push))](
        hidden,
        state,
        entries,
        tables.direction,
        hidden.stride(0),
        state.stride(0),
        size,
        BLOCK=push,
        num_warps=4,
    )


def _check(*tensors: Tensor) -> None:
    for tensor in tensors:
        if tensor.stride(-1) != 1:
            raise ValueError(f"rows lie {tensor.stride(-1)} numbers apart; expected side by side")


def _power_of_two(number: int) -> int:
    return 1 << max(number - 1, 0).bit_length()
