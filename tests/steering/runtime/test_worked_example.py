"""The worked example in the comments of the plan and of the operator is true."""

from __future__ import annotations

import pytest
import torch

from refusal_steering.coefficient import LayerSteering
from refusal_steering.directive import Directive
from refusal_steering.runtime import operator
from refusal_steering.runtime.bank import COEFFICIENT, ROWS, LayerBank, state_table
from refusal_steering.runtime.buffers import (
    BUNDLE_SLOT,
    COMPUTES,
    OWNER,
    REQUEST_SLOT,
    STRENGTH,
    StepBuffers,
)
from refusal_steering.runtime.plan import StepPlan
from refusal_steering.runtime.requests import RequestSlots
from tests.steering.runtime.steps import FORM, reports_of, rows_of

SIZE, ROOM = 4, 8
CPU = torch.device("cpu")
# What the bundles of the example earn: constants, along axes of their own.
EARNED = {1: 4.0, 2: 3.0}


@pytest.fixture
def requests() -> RequestSlots:
    slots = RequestSlots(3, scratch=6)
    slots.admit("a", 10, Directive("one", "p", "v", strength=1.0), bundle_slot=1)
    slots.admit("b", 5, Directive("two", "p", "v", strength=0.5), bundle_slot=2)
    slots.admit("c", 7, Directive("one", "p", "v", strength=2.0, hold=False), bundle_slot=1)
    return slots


@pytest.fixture
def step(requests: RequestSlots) -> StepPlan:
    return requests.plan(["b", "c", "a"], [7, 9, 6], [1, 1, 4])


def test_rows_request_slots_and_bundle_slots_of_the_plan(step: StepPlan) -> None:
    assert step.tokens == 6
    rows = [(r.at, r.request_slot, r.owner, r.bundle_slot, r.computes) for r in rows_of(step)]
    assert rows == [(0, 3, 3, 2, False), (1, 5, 4, 1, True), (5, 2, 2, 1, True)]
    assert reports_of(step) == [("b", 7, 3, 3), ("c", 9, 5, 4), ("a", 9, 2, 2)]


def test_buffers_that_a_captured_graph_reads(step: StepPlan) -> None:
    buffers = StepBuffers(ROOM, CPU)
    buffers.commit(step)
    columns = buffers.entries[:6].T
    assert columns[REQUEST_SLOT].tolist() == [3, 5, 0, 0, 0, 2]
    assert columns[OWNER].tolist() == [3, 4, 0, 0, 0, 2]
    assert columns[BUNDLE_SLOT].tolist() == [2, 1, 0, 0, 0, 1]
    assert columns[COMPUTES].tolist() == [0, 1, 0, 0, 0, 1]
    strength = columns[STRENGTH].view(torch.float32)
    assert strength.tolist() == [0.5, 2.0, 0.0, 0.0, 0.0, 1.0]
    assert not buffers.entries[6:].any()


@pytest.mark.parametrize("graph_rows", [0, ROOM])
def test_what_every_row_gets(requests: RequestSlots, step: StepPlan, graph_rows: int) -> None:
    bank = LayerBank(3, 1, SIZE, state_table(requests.state_rows, 1, CPU), 0)
    for bundle_slot, coefficient in EARNED.items():
        axis = torch.eye(SIZE)[bundle_slot]
        bank.load(bundle_slot, LayerSteering.static(axis, coefficient))
    buffers = StepBuffers(graph_rows, CPU, fused=FORM.fused)
    engine = operator.register_engine(buffers)

    def run(plan: StepPlan) -> torch.Tensor:
        buffers.commit(plan)
        hidden = torch.zeros(plan.tokens, SIZE)
        operator.OP(
            hidden,
            None,
            bank.states,
            bank.place,
            buffers.entries,
            bank.weight,
            bank.bias,
            bank.output,
            bank.scalars,
            bank.direction,
            None,
            None,
            None,
            None,
            engine,
        )
        return hidden

    run(requests.plan(["b"], [0], [5]))
    assert bank.state[3, COEFFICIENT] == 3.0
    changes = run(step)
    assert bank.state[[5, 2], COEFFICIENT].tolist() == [4.0, 4.0]
    assert bank.state[[3, 4, 2], ROWS].tolist() == [2.0, 1.0, 1.0], "b's last prompt token counts"
    assert bank.state[0, COEFFICIENT] == 0.0
    expected = torch.zeros(6, SIZE)
    expected[0, 2], expected[1, 1], expected[5, 1] = 0.5 * 3.0, 2.0 * 4.0, 1.0 * 4.0
    assert torch.equal(changes, expected)
