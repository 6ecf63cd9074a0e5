"""The operator's form in Triton: at most two launches, for captured and other steps alike."""

from __future__ import annotations

from torch import Tensor

from refusal_steering.runtime.forms import kernels
from refusal_steering.runtime.forms.layer import Rows, Tables

# The shapes that took least on an H100 (docs/design/engine.md): large tiles keep more loads in
# flight, and a row that is pushed by one program costs an idle step the fewest programs.
EARN_WARPS, PUSH_WARPS = 4, 8
_TILE, _WIDEST, _ROOM_BLOCK, _PUSH_BLOCK = 8192, 1024, 256, 4096


def earn_shape(units: int) -> dict[str, int]:
    """The constants of ``earn`` for adapters of at most ``units`` hidden units."""
    block = _power_of_two(units)
    return {
        "UNITS": units,
        "UNIT_BLOCK": block,
        "BLOCK": min(max(_TILE // block, 16), _WIDEST),
        "ROOM_BLOCK": _ROOM_BLOCK,
    }


def push_block(size: int) -> int:
    """How many numbers of a row of ``size`` one program of ``push`` moves."""
    return min(_PUSH_BLOCK, _power_of_two(size))


def steer(rows: Rows, tables: Tables, entries: Tensor) -> None:
    """Steer rows of ``hidden`` [T, H] in place by ``entries`` [n, 8]; nothing waits."""
    hidden, residual, state = rows.hidden, rows.residual, tables.state
    count, size = entries.shape[0], hidden.shape[1]
    _check(hidden, state, entries, *(() if residual is None else (residual,)))
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
        **earn_shape(tables.output.shape[1]),
        HAS_RESIDUAL=residual is not None,
        HAS_GATE=gate is not None and floor is not None,
        HAS_BALL=ball is not None and radius is not None,
        num_warps=EARN_WARPS,
    )
    push = push_block(size)
    kernels.push[(count, -(-size // push))](
        hidden,
        state,
        entries,
        tables.direction,
        hidden.stride(0),
        state.stride(0),
        size,
        BLOCK=push,
        num_warps=PUSH_WARPS,
    )


def _check(*tensors: Tensor) -> None:
    for tensor in tensors:
        if tensor.stride(-1) != 1:
            raise ValueError(f"rows lie {tensor.stride(-1)} numbers apart; expected side by side")


def _power_of_two(number: int) -> int:
    return 1 << max(number - 1, 0).bit_length()
