"""The captured forms read nothing of the device on the host: they run on tensors without values."""

from __future__ import annotations

import pytest
import torch

from refusal_steering.runtime.bank import LayerBank, state_table
from refusal_steering.runtime.buffers import StepBuffers
from refusal_steering.runtime.forms import padded
from refusal_steering.runtime.forms.layer import Rows, Tables
from refusal_steering.runtime.gate import padded as gate_padded
from refusal_steering.runtime.gate.bank import GateBank, GateSizes
from refusal_steering.runtime.gate.buffers import GateBuffers
from refusal_steering.runtime.transfer import put

META = torch.device("meta")
SIZE, ROWS, UNITS = 32, 8, 5


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("balls", [True, False])
@pytest.mark.parametrize("gated", [True, False])
def test_the_steering_operators_body(split: bool, balls: bool, gated: bool) -> None:
    bank = LayerBank(3, UNITS, SIZE, state_table(20, 2, META), 0, balls=balls)
    gate = torch.empty(20, 6, device=META) if gated else None
    floor = torch.empty(3, device=META) if gated else None
    own = (bank.weight, bank.bias, bank.output, bank.scalars, bank.direction)
    tables = Tables(bank.state, *own, gate, floor, bank.ball, bank.radius)
    hidden = torch.empty(ROWS, SIZE, dtype=torch.bfloat16, device=META)
    rows = Rows(hidden, torch.empty_like(hidden) if split else None)
    padded.steer(rows, tables, StepBuffers(ROWS, META).entries)


@pytest.mark.parametrize("place", [0, 1])
def test_the_reading_operators_body(place: int) -> None:
    bank = GateBank(GateSizes((1, 3), (3,), gates=2, requests=4), 3, SIZE, 20, META)
    bank.open_cells(4, 4)
    buffers = GateBuffers(ROWS, bank, lambda *values: put(META, *values))
    hidden = torch.empty(ROWS, SIZE, dtype=torch.bfloat16, device=META)
    gate_padded.read(Rows(hidden, torch.empty_like(hidden)), bank.state, place, buffers)


def test_such_tensors_cannot_be_read_on_the_host() -> None:
    with pytest.raises(RuntimeError, match="meta"):
        torch.ones(1, device=META).item()
