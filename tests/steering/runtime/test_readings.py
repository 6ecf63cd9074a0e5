"""Readings that are made column by column are those that are made one by one."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from refusal_steering.directive import Directive
from refusal_steering.gate.reading import GateReading
from refusal_steering.runtime.bank import state_table
from refusal_steering.runtime.buffers import StepBuffers
from refusal_steering.runtime.readings import readings_of
from refusal_steering.runtime.requests import RequestSlots
from refusal_steering.trace import Reading
from tests.steering.runtime.row_by_row import read
from tests.steering.runtime.steps import reports_of

# Of each bundle slot: the places of its layers in the state table.
LAYERS = {1: (0, 1, 2), 2: (1,), 3: (0, 2)}
CPU = torch.device("cpu")


@given(
    requests=st.lists(st.tuples(st.sampled_from([1, 2, 3]), st.booleans()), min_size=1, max_size=9),
    seed=st.integers(0, 99),
)
def test_columns_are_what_one_reading_after_the_other_gives(
    requests: list[tuple[int, bool]], seed: int
) -> None:
    table = RequestSlots(9, scratch=9)
    for number, (bundle_slot, hold) in enumerate(requests):
        directive = Directive("b", "p", "v", hold=hold, blend=0.5, blend_tokens=2)
        table.admit(str(number), 3, directive, bundle_slot)
    names = [str(number) for number in range(len(requests))]
    plan = table.plan(names, [5] * len(names), [1] * len(names))
    torch.manual_seed(seed)
    states = torch.randint(0, 50, (table.state_rows, 4, 4)).float()
    buffers = StepBuffers(0, CPU)
    buffers.commit(plan)
    assert buffers.reported is not None
    found = readings_of(plan.reports, LAYERS, states[buffers.reported], {})
    layers = [LAYERS[bundle_slot] for bundle_slot, _ in requests]
    assert found == read(reports_of(plan), states.unbind(1), layers)


@pytest.mark.parametrize("score", [1.5, math.nan])
def test_a_gate_is_read_for_its_own_request_and_one_without_a_score_fails_it(score: float) -> None:
    table = RequestSlots(2, scratch=1)
    for name in ("a", "b"):
        table.admit(name, 3, Directive("b", "p", "v"), 2)
    plan = table.plan(["a", "b"], [0, 0], [3, 3])
    buffers = StepBuffers(0, CPU)
    buffers.commit(plan)
    found = state_table(table.state_rows, 4, CPU)[buffers.reported]
    gate = GateReading(score, 0.5, 1, 2.0, (1.0,), (1,))
    wires = readings_of(plan.reports, LAYERS, found, {"b": gate, "unknown": gate})
    plain = Reading(2, (0.0,), 0.0, 0)
    assert Reading.from_wire(wires["a"]) == plain and set(wires) == {"a", "b"}
    reading = Reading.from_wire(wires["b"])
    if math.isnan(score):
        assert reading.failure and "no score" in reading.failure
    else:
        assert reading == plain._replace(gate=gate, risk_logit=score)
