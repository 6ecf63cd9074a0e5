"""Laws of the operator in Triton that need its interpreter; `test_fused.py` plays them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refusal_steering.coefficient import Ball, LayerSteering
from refusal_steering.directive import Directive
from refusal_steering.runtime.bank import COEFFICIENT, LayerBank, state_table
from refusal_steering.runtime.buffers import StepBuffers
from refusal_steering.runtime.forms import fused, live, padded
from refusal_steering.runtime.forms.layer import Rows, Tables
from refusal_steering.runtime.forms.trial import TrialSizes, problem_of_triton
from refusal_steering.runtime.gate import fused as gate_fused
from refusal_steering.runtime.gate.bank import OPENING, GateSizes
from refusal_steering.runtime.plan import FIRST_SLOT, StepPlan
from refusal_steering.runtime.requests import RequestSlots
from tests.steering.runtime.steps import rows_of

SIZE, PROMPT, ROOM = 40, 3, 24
CPU = torch.device("cpu")
# A rounding of the change and one of the sum, which the interpreter cuts off for bfloat16.
CLOSE = {
    torch.float32: (1e-5, 1e-4),
    torch.float16: (2e-3, 8e-3),
    torch.bfloat16: (1.6e-2, 6.4e-2),
}
REQUEST = st.tuples(
    st.integers(0, 16),
    st.booleans(),
    st.sampled_from([0.0, 0.5, 2.0]),
    st.lists(st.sampled_from(["image", "audio", "video"]), max_size=5).map(tuple),
    st.none() | st.just(0.3),
    st.integers(0, PROMPT + 1),
    st.integers(1, PROMPT),
)
PLAY = settings(
    max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


def layer(seed: int, units: int) -> LayerSteering:
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random)

    direction = normal(SIZE)
    return LayerSteering(
        direction=direction / direction.norm(),
        input_weight=normal(units, SIZE),
        input_bias=normal(units),
        output_weight=normal(units),
        output_bias=0.3,
        floor=-9.0,
        ceiling=9.0,
        risk_weight=normal(SIZE),
        risk_bias=-0.2,
        offsets={"image": normal(4, SIZE), "video": normal(SIZE)} if seed % 2 else {},
    )


class Step:
    """A plan over as many bundle slots as an engine has, and all that a layer's operator reads."""

    def __init__(
        self, requests: list[Any], slots: int, units: int, balls: bool, gated: bool, captured: bool
    ) -> None:
        table, batch, at = RequestSlots(8, scratch=ROOM), [], 0
        for number, (wanted, hold, strength, media, limit, first, count) in enumerate(requests):
            bundle_slot = wanted % (slots + 1)
            if bundle_slot:
                directive = Directive(
                    "b", "p", "v", hold=hold, strength=strength, media=media, dose_limit=limit
                )
                table.admit(str(number), PROMPT, directive, bundle_slot)
            batch.append((str(number), first, count))
            at += count
        self.tokens = at
        plan = table.plan(*zip(*batch, strict=True)) if batch else StepPlan(0)
        self.rows = rows_of(plan)
        self.states = state_table(table.state_rows, 3, CPU)
        self.states[FIRST_SLOT:] = torch.randn(self.states[FIRST_SLOT:].shape)
        self.bank = LayerBank(slots + 1, units, SIZE, self.states, 1, balls=balls)
        for slot in range(1, slots + 1):
            steering = layer(slot, slot % (units + 1))
            ball = Ball(torch.zeros(SIZE), 9.0) if balls and slot % 2 else None
            self.bank.load(slot, replace(steering, ball=ball))
        self.gate = torch.rand(table.state_rows, 5) if gated else None
        if self.gate is not None:
            self.gate[FIRST_SLOT, OPENING] = torch.nan
        self.floor = (torch.arange(slots + 1) % 2).float() if gated else None
        rows = ROOM if captured else 0
        self.triton = StepBuffers(rows, CPU, fused=True)
        self.torch = StepBuffers(rows, CPU)
        self.torch.gated = {s for s in range(1, slots + 1) if gated and s % 2 == 0}
        for buffers in (self.triton, self.torch):
            buffers.commit(plan)

    def tables(self, states: torch.Tensor) -> Tables:
        bank = self.bank
        own = (bank.weight, bank.bias, bank.output, bank.scalars, bank.direction)
        return Tables(states[:, 1], *own, self.gate, self.floor, bank.ball, bank.radius)

    def play(self, rows: Rows, in_triton: bool) -> torch.Tensor:
        """The state table after the operator has steered ``rows``."""
        states = self.states.clone()
        tables, count = self.tables(states), rows.hidden.shape[0]
        if in_triton:
            captured = self.triton.graph_rows > 0
            entries = self.triton.entries[:count] if captured else self.triton.compact
            if entries is not None:
                fused.steer(rows, tables, entries)
        elif self.torch.graph_rows > 0:
            padded.steer(rows, tables, self.torch.entries[:count])
        elif self.torch.live is not None:
            live.steer(rows, tables, self.torch.live)
        return states


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("captured", [True, False])
@PLAY
@given(
    requests=st.lists(REQUEST, max_size=5),
    slots=st.sampled_from([1, 4, 16]),
    units=st.sampled_from([1, 5, 8]),
    balls=st.booleans(),
    gated=st.booleans(),
    split=st.booleans(),
)
def test_it_equals_the_torch_form_and_touches_no_other_row(
    requests: list[Any],
    slots: int,
    units: int,
    balls: bool,
    gated: bool,
    split: bool,
    captured: bool,
    dtype: torch.dtype,
) -> None:
    torch.manual_seed(0)
    step = Step(requests, slots, units, balls, gated, captured)
    hidden = torch.randn(step.tokens + 3, SIZE).to(dtype)
    residual = torch.randn(step.tokens + 3, SIZE).to(dtype) if split else None
    found, expected = hidden.clone(), hidden.clone()
    states = step.play(Rows(found, residual), in_triton=True)
    wanted = step.play(Rows(expected, residual), in_triton=False)
    rtol, atol = CLOSE[dtype]
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)
    torch.testing.assert_close(states[FIRST_SLOT:], wanted[FIRST_SLOT:], rtol=1e-4, atol=1e-4)
    # Other layers' places, and the slots that are zero for ever, are nobody's to write.
    assert torch.equal(states[:, [0, 2]], step.states[:, [0, 2]]) and not states[0].any()
    pushed = {row.at for row in step.rows if row.strength}
    still = [at for at in range(step.tokens + 3) if at not in pushed]
    assert torch.equal(found[still].view(torch.uint8), hidden[still].view(torch.uint8))
    touched = {slot for row in step.rows for slot in (row.request_slot, row.owner)}
    idle = [slot for slot in range(len(states)) if slot not in touched]
    assert torch.equal(states[idle], step.states[idle]), "an idle program writes nothing"


def test_what_is_no_number_does_not_look_like_one() -> None:
    step = Step([(1, True, 1.0, (), None, PROMPT - 1, 1)], 1, 4, False, False, True)
    hidden = torch.randn(1, SIZE)
    hidden[0, 5] = torch.nan
    states = step.play(Rows(hidden, None), in_triton=True)
    assert states[step.rows[0].request_slot, 1, COEFFICIENT].isnan()


@pytest.mark.parametrize("dtype", CLOSE)
def test_its_trial_finds_nothing_wrong_and_sees_what_is(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    gates = GateSizes((0, 2, 3), (2, 3), gates=2, requests=8)
    sizes = TrialSizes(SIZE, 6, dtype, balls=True, gates=gates)
    assert problem_of_triton(sizes, CPU) is None
    monkeypatch.setattr(gate_fused, "conclude", lambda *_: None)
    assert "score" in str(problem_of_triton(sizes, CPU))
    monkeypatch.setattr(gate_fused, "probe", lambda *_: None)
    assert "readings" in str(problem_of_triton(sizes, CPU))
    monkeypatch.setattr(fused, "steer", lambda rows, *_: rows.hidden.mul_(1.5))
    assert "stream" in str(problem_of_triton(sizes, CPU))


def test_rows_that_do_not_lie_side_by_side_are_refused() -> None:
    step = Step([(1, True, 1.0, (), None, PROMPT - 1, 1)], 1, 4, False, False, True)
    with pytest.raises(ValueError, match="side by side"):
        step.play(Rows(torch.randn(SIZE, 2).T[:1], None), in_triton=True)
