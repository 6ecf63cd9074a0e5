"""The operator: both of its forms equal the formula, leave other rows alone, and can be traced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch._inductor.utils import run_and_get_code  # noqa: PLC2701 - there is no public way

from refusal_steering.coefficient import Ball, LayerSteering
from refusal_steering.directive import Directive
from refusal_steering.errors import BundleError
from refusal_steering.runtime import operator
from refusal_steering.runtime.bank import (
    COEFFICIENT,
    DOSE,
    RISK,
    ROWS,
    LayerBank,
    state_table,
)
from refusal_steering.runtime.buffers import StepBuffers
from refusal_steering.runtime.plan import NULL_SLOT, StepPlan
from refusal_steering.runtime.requests import RequestSlots
from tests.steering.runtime.steps import FORM, reports_of, rows_of

SIZE, UNITS, TOKENS = 32, 6, 40
CPU = torch.device("cpu")


@dataclass
class Rig:
    bank: LayerBank
    buffers: StepBuffers
    engine: int

    def inputs(self, hidden: torch.Tensor, residual: torch.Tensor | None) -> tuple[Any, ...]:
        b, s = self.bank, self.buffers
        step = (b.states, b.place, s.entries)
        bank = (b.weight, b.bias, b.output, b.scalars, b.direction)
        return (hidden, residual, *step, *bank, None, None, b.ball, b.radius, self.engine)

    def run(self, plan: StepPlan, hidden: torch.Tensor, residual: torch.Tensor | None) -> Any:
        self.buffers.commit(plan)
        steered = hidden.clone()
        operator.OP(*self.inputs(steered, residual))
        return steered


def layer(seed: int, units: int) -> LayerSteering:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    direction = normal(SIZE)
    return LayerSteering(
        direction / direction.norm(),
        normal(units, SIZE),
        normal(units),
        normal(units),
        0.3,
        0.0,
        25.0,
        normal(SIZE),
        -0.2,
    )


def offsets(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    by_count = torch.randn(3, SIZE, generator=generator)
    return {"image": by_count, "video": torch.randn(SIZE, generator=generator)}


# The ball of bundle slot 1 binds for some of its rows of `step` and not for others.
BALL = Ball(torch.zeros(SIZE), 8.0)
LAYERS = {
    1: replace(layer(1, UNITS), offsets=offsets(7), ball=BALL),
    2: layer(2, 3),
    3: LayerSteering.static(layer(3, 0).direction, 4.0),
}
# Of the requests of `step`: the media that re-centre it, and the limit of its dose.
MEDIA = {1: ("image", "audio", "image"), 2: ("video",), 3: ()}
LIMIT = {1: None, 2: 0.4, 3: 0.05}


def rig(
    graph_rows: int, layers: Mapping[int, LayerSteering] = LAYERS, *, balls: bool = True
) -> Rig:
    table_rows = RequestSlots(8, TOKENS).state_rows
    bank = LayerBank(5, UNITS, SIZE, state_table(table_rows, 3, CPU), 1, balls=balls)
    for bundle_slot, steering in layers.items():
        bank.load(bundle_slot, steering)
    buffers = StepBuffers(graph_rows, CPU, fused=FORM.fused)
    return Rig(bank, buffers, operator.register_engine(buffers))


def step() -> StepPlan:
    """Four requests in one batch of 23 rows: bundle slots 1 (each row), none, 2 (held), 3 (static).

    Bundle slot 1 has offsets and media, bundle slot 2 media without offsets, bundle slots 2 and 3 a
    limited dose.
    """
    table = RequestSlots(8, TOKENS)
    for name, bundle_slot, hold, strength in (
        ("a", 1, False, 1.5),
        ("c", 2, True, 1.0),
        ("d", 3, True, 0.5),
    ):
        directive = Directive(
            "b",
            "p",
            "v",
            strength=strength,
            hold=hold,
            media=MEDIA[bundle_slot],
            dose_limit=LIMIT[bundle_slot],
        )
        table.admit(name, 6, directive, bundle_slot)
    return table.plan(["a", "x", "c", "d"], [0, 0, 5, 2], [8, 5, 1, 9])


def coefficient(bundle_slot: int, strength: float, row: torch.Tensor) -> torch.Tensor:
    """The formula in plain words, from float32 ``row``."""
    earned, limit = LAYERS[bundle_slot].coefficient(row, MEDIA[bundle_slot]), LIMIT[bundle_slot]
    if limit is None:
        return earned
    bound = limit / strength * row.norm()
    return earned.clamp(-bound, bound)


def expected(plan: StepPlan, hidden: torch.Tensor, residual: torch.Tensor | None) -> torch.Tensor:
    stream = hidden.float() if residual is None else hidden.float() + residual.float()
    steered, held = hidden.clone(), {}
    for row in rows_of(plan):
        steering = LAYERS[row.bundle_slot]
        if row.computes:
            held[row.request_slot] = coefficient(row.bundle_slot, row.strength, stream[row.at])
        change = held[row.request_slot] * row.strength * steering.direction
        steered[row.at] += change.to(hidden.dtype)
    return steered


@pytest.mark.parametrize("graph_rows", [0, TOKENS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("split", [True, False])
def test_both_forms_equal_the_formula(graph_rows: int, dtype: torch.dtype, split: bool) -> None:
    torch.manual_seed(0)
    plan, hidden = step(), torch.randn(30, SIZE).to(dtype)
    residual = torch.randn(30, SIZE).to(dtype) if split else None
    before = None if residual is None else residual.clone()
    steered = rig(graph_rows).run(plan, hidden, residual)
    # Triton's interpreter cuts bfloat16 off where a device rounds it.
    cut = 3.2e-2 if FORM.fused and dtype == torch.bfloat16 else None
    wanted = expected(plan, hidden, residual)
    torch.testing.assert_close(steered, wanted, rtol=cut and 1.6e-2, atol=cut)
    others = [i for i in range(30) if i not in {row.at for row in rows_of(plan)}]
    assert torch.equal(steered[others], hidden[others])
    assert residual is None or torch.equal(residual, before)  # type: ignore[arg-type]


@pytest.mark.parametrize("graph_rows", [0, TOKENS])
def test_a_ball_binds_for_some_rows_and_touches_none_of_other_bundles(graph_rows: int) -> None:
    torch.manual_seed(0)
    plan, hidden = step(), torch.randn(23, SIZE)
    free = {**LAYERS, 1: replace(LAYERS[1], ball=None)}
    bound, unbound, roomless = (
        rig(graph_rows, layers, balls=balls).run(plan, hidden, None)
        for layers, balls in ((LAYERS, True), (free, True), (free, False))
    )
    # Room for balls changes nothing, to the bit; a ball nothing but rows of its own bundle.
    assert torch.equal(unbound, roomless)
    own = {row.at for row in rows_of(plan) if row.bundle_slot == 1}
    changed = {at for at in range(23) if not torch.equal(bound[at], unbound[at])}
    assert changed < own and changed


def test_a_ball_without_room_is_refused() -> None:
    with pytest.raises(BundleError, match="ball"):
        rig(0, balls=False)


@pytest.mark.parametrize("graph_rows", [0, TOKENS])
def test_a_bundle_slot_forgets_its_ball(graph_rows: int) -> None:
    torch.manual_seed(0)
    plan, hidden, bench = step(), torch.randn(23, SIZE), rig(graph_rows)
    free = replace(LAYERS[1], ball=None)
    bench.bank.load(1, free)
    expected = rig(graph_rows, {**LAYERS, 1: free}).run(plan, hidden, None)
    assert torch.equal(bench.run(plan, hidden, None), expected)


@pytest.mark.parametrize("graph_rows", [0, TOKENS])
def test_state_table_holds_coefficient_risk_and_rows(graph_rows: int) -> None:
    plan, hidden, bench = step(), torch.randn(23, SIZE), rig(graph_rows)
    bench.run(plan, hidden, None)
    for report in reports_of(plan):
        own = [row for row in rows_of(plan) if row.owner == report.owner]
        assert bench.bank.state[report.owner, ROWS] == len(own)
        row = next(row for row in reversed(own) if row.request_slot == report.request_slot)
        if row.computes:
            entry = bench.bank.state[report.request_slot]
            steering = LAYERS[row.bundle_slot]
            kept = float(coefficient(row.bundle_slot, row.strength, hidden[row.at]))
            assert entry[COEFFICIENT] == pytest.approx(kept, rel=1e-4)
            assert entry[RISK] == pytest.approx(
                float(steering.risk_logit(hidden[row.at], MEDIA[row.bundle_slot])),
                rel=1e-4,
                abs=1e-5,
            )
            assert entry[DOSE] == pytest.approx(abs(kept) / float(hidden[row.at].norm()), rel=1e-4)
    assert bench.bank.state[NULL_SLOT, COEFFICIENT] == 0


@pytest.mark.parametrize("graph_rows", [0, TOKENS])
def test_no_token_gets_more_than_its_limit(graph_rows: int) -> None:
    plan, hidden = step(), torch.randn(23, SIZE)
    change = (rig(graph_rows).run(plan, hidden, None) - hidden).norm(dim=-1)
    computed = [row for row in rows_of(plan) if row.computes and LIMIT[row.bundle_slot] is not None]
    share = {row.bundle_slot: float(change[row.at] / hidden[row.at].norm()) for row in computed}
    assert share[3] == pytest.approx(0.05, rel=1e-4), "the limit is below the static coefficient"
    assert share[2] <= 0.4 * 1.0001


@pytest.mark.parametrize("graph_rows", [0, TOKENS])
def test_idle_step_after_a_steered_one_touches_nothing(graph_rows: int) -> None:
    bench, hidden = rig(graph_rows), torch.randn(23, SIZE)
    bench.run(step(), hidden, None)
    assert torch.equal(bench.run(StepPlan(23), hidden, None), hidden)


@pytest.mark.parametrize("graph_rows", [0, TOKENS])
def test_strength_zero_adds_nothing_to_the_bit(graph_rows: int) -> None:
    table = RequestSlots(8, TOKENS)
    table.admit("a", 3, Directive("b", "p", "v", strength=0.0), 1)
    hidden = torch.randn(5, SIZE).bfloat16()
    assert torch.equal(rig(graph_rows).run(table.plan(["a"], [0], [5]), hidden, None), hidden)


def test_operator_passes_torch_library_checks() -> None:
    bench, hidden = rig(TOKENS), torch.randn(23, SIZE)
    bench.buffers.commit(step())
    inputs = bench.inputs(hidden, torch.randn(23, SIZE))
    checks = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")
    torch.library.opcheck(operator.OP, inputs, test_utils=checks)


def test_compiled_equals_eager() -> None:
    bench, hidden = rig(0), torch.randn(23, SIZE)
    residual = torch.randn(23, SIZE)
    bench.buffers.commit(step())

    def forward(rows: torch.Tensor) -> torch.Tensor:
        rows = rows * 2
        operator.OP(*bench.inputs(rows, residual))
        return rows + 1

    eager = forward(hidden)
    compiled = torch.compile(forward, fullgraph=True, dynamic=True)(hidden)
    torch.testing.assert_close(compiled, eager)


def test_what_layers_share_is_written_in_place_by_compiled_code() -> None:
    """A copy of the state table for each layer would cost more than the operator."""
    benches = [rig(0), rig(0)]
    benches[1].bank.states, benches[1].bank.place = benches[0].bank.states, 2
    for bench in benches:
        bench.buffers.commit(step())

    def forward(rows: torch.Tensor) -> torch.Tensor:
        for bench in benches:
            rows = rows * 2
            operator.OP(*bench.inputs(rows, None))
        return rows + 1

    compiled = torch.compile(forward, fullgraph=True, dynamic=True)
    _, (code,) = run_and_get_code(compiled, torch.randn(23, SIZE))
    called = code.partition("def call(")[2]
    assert called.count("refusal_steering.steer.default(") == 2
    assert "clone" not in called and "copy_" not in called
