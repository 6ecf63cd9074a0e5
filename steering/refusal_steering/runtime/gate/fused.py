"""The gate's form in Triton: one launch a probed layer, one more where scores are completed."""

from __future__ import annotations

from torch import Tensor

from refusal_steering.runtime.forms.layer import Rows
from refusal_steering.runtime.gate import kernels
from refusal_steering.runtime.gate.bank import GateBank
from refusal_steering.runtime.gate.buffers import GateBuffers

_TILE, _WARPS, _BLOCK = 2048, 8, 64


def probe(rows: Rows, bank: GateBank, place: int, cells_of_rows: Tensor) -> None:
    """Keep what every loaded gate reads of the first rows, of which there are as many as cells."""
    hidden, residual, cells = rows.hidden, rows.residual, bank.cells
    assert cells is not None
    target, size = cells[:, place], hidden.shape[1]
    probes = bank.bias.shape[1]
    block = _power_of_two(probes)
    kernels.probe[(cells_of_rows.shape[0],)](
        hidden,
        hidden if residual is None else residual,
        target,
        cells_of_rows,
        bank.weight[place],
        bank.bias[place],
        bank.loaded,
        hidden.stride(0),
        hidden.stride(0) if residual is None else residual.stride(0),
        target.stride(0),
        cells.shape[0] - 1,
        size,
        PROBES=probes,
        PROBE_BLOCK=block,
        BLOCK=max(_TILE // block, 16),
        HAS_RESIDUAL=residual is not None,
        num_warps=_WARPS,
    )


def conclude(buffers: GateBuffers, rows: int) -> None:
    """Write the state of the prompts that the captured step of ``rows`` rows completes."""
    bank = buffers.bank
    assert bank.cells is not None
    layers = bank.shares.shape[1]
    lanes = min(buffers.lanes.shape[1], rows)
    kernels.conclude[(lanes,)](
        bank.cells,
        buffers.rows[0],
        buffers.rows[1],
        buffers.lanes,
        buffers.counted,
        buffers.carry,
        bank.state,
        bank.uses,
        bank.shares,
        bank.ramp,
        bank.cells.stride(0),
        buffers.lanes.stride(0),
        buffers.counted.stride(0),
        buffers.carry.stride(0),
        bank.state.stride(0),
        rows,
        GATES=bank.sizes.gates,
        LAYERS=layers,
        LAYER_BLOCK=_power_of_two(layers),
        BLOCK=_BLOCK,
        num_warps=4,
    )


def _power_of_two(number: int) -> int:
    return 1 << max(number - 1, 0).bit_length()
