"""A trial of the form in Triton: one small step of an engine's sizes, next to the torch form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from refusal_steering.coefficient import Ball, LayerSteering
from refusal_steering.directive import Directive
from refusal_steering.runtime.bank import LayerBank, state_table
from refusal_steering.runtime.buffers import StepBuffers
from refusal_steering.runtime.forms import padded
from refusal_steering.runtime.forms.layer import Rows, Tables
from refusal_steering.runtime.gate import trial as gate_trial
from refusal_steering.runtime.gate.bank import GateSizes
from refusal_steering.runtime.requests import RequestSlots

_PROMPT, _ROWS = 4, 8
# Off by this much, relative to the largest number: sums in another order, and one rounding.
_FITS = {torch.float32: 1e-4, torch.float16: 4e-3, torch.bfloat16: 3e-2}


@dataclass(frozen=True, slots=True)
class TrialSizes:
    """Of the engine: the stream's width and type, the widest adapter, room for balls, gates."""

    hidden_size: int
    units: int
    dtype: torch.dtype
    balls: bool = False
    gates: GateSizes | None = None


def problem_of_triton(sizes: TrialSizes, device: torch.device) -> str | None:
    """What is wrong with the form in Triton on ``device``; ``None`` where nothing is.

    Compiles it, so it may take some seconds, and raises whatever the compiler raises.
    """
    from refusal_steering.runtime.forms import fused

    for residual in (True, False):
        step = _Step(sizes, device, residual=residual)
        found, expected = step.played(fused.steer), step.played(padded.steer)
        for what, one, other in zip(("stream", "state"), found, expected, strict=True):
            limit = _FITS[sizes.dtype] if what == "stream" else _FITS[torch.float32]
            off = float((one - other).abs().max() / other.abs().max())
            # Not "more than": what is no number must not pass.
            if not off <= limit:
                return f"its {what} is off by {off:.2g}, expected at most {limit:g}"
        idle = [at for at in range(_ROWS) if at not in step.steered]
        if not torch.equal(found[0][idle], step.hidden[idle].float()):
            return "it changes rows that are not steered"
    if sizes.gates is None:
        return None
    return gate_trial.problem_of_triton(sizes.gates, sizes.hidden_size, sizes.dtype, device)


class _Step:
    """Two requests that end their prompts, one that decodes and one row that is not steered."""

    def __init__(self, sizes: TrialSizes, device: torch.device, *, residual: bool) -> None:
        random = torch.Generator().manual_seed(0)
        size = sizes.hidden_size
        requests = RequestSlots(4, scratch=_ROWS)
        states = state_table(requests.state_rows, 2, device)
        bank = LayerBank(3, sizes.units, size, states, 1, balls=sizes.balls)
        for bundle_slot, units in ((1, sizes.units), (2, 0)):
            bank.load(bundle_slot, _layer(random, size, units, balls=sizes.balls))
        for name, bundle_slot, hold in (("a", 1, True), ("b", 2, True), ("c", 1, False)):
            directive = Directive("b", "p", "v", hold=hold, dose_limit=0.5)
            requests.admit(name, _PROMPT, directive, bundle_slot)
        # a ends its prompt, b holds a coefficient, c earns one anew; x is not steered.
        plan = requests.plan(["x", "a", "b", "c"], [0, 2, 5, 5], [2, 3, 1, 2])
        self.steered = set(plan.rows.at.tolist())
        buffers = StepBuffers(_ROWS, device)
        buffers.commit(plan)
        self._entries = buffers.entries
        states.copy_(torch.rand(states.shape, generator=random))
        states[0].zero_()
        self._states, self._bank, self._gated = states, bank, sizes.gates is not None
        self.hidden = _rows(random, size, sizes.dtype).to(device)
        self._residual = _rows(random, size, sizes.dtype).to(device) if residual else None

    def played(self, steer: Callable[[Rows, Tables, Tensor], None]) -> tuple[Tensor, Tensor]:
        """The stream [T, H] and the state that ``steer`` leaves, in float32."""
        bank, hidden = self._bank, self.hidden.clone()
        states = self._states.clone()
        gate = torch.rand(len(states), 2, generator=torch.Generator().manual_seed(1))
        floor = torch.zeros(3, device=hidden.device)
        opening, floor = (gate.to(hidden.device), hidden.new_zeros(3, dtype=torch.float32))
        tables = Tables(
            states[:, bank.place],
            bank.weight,
            bank.bias,
            bank.output,
            bank.scalars,
            bank.direction,
            opening if self._gated else None,
            floor if self._gated else None,
            bank.ball,
            bank.radius,
        )
        steer(Rows(hidden, self._residual), tables, self._entries)
        # What lies in the trash slot is nobody's.
        return hidden.float(), states[2:]


def _rows(random: torch.Generator, size: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(_ROWS, size, generator=random).to(dtype)


def _layer(random: torch.Generator, size: int, units: int, *, balls: bool) -> LayerSteering:
    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random).mul(shape[-1] ** -0.5)

    direction = normal(size)
    return LayerSteering(
        direction=direction / direction.norm(),
        input_weight=normal(units, size) if units else torch.zeros(0, size),
        input_bias=normal(units) if units else torch.zeros(0),
        output_weight=normal(units) if units else torch.zeros(0),
        output_bias=1.0,
        floor=-20.0,
        ceiling=20.0,
        risk_weight=normal(size),
        risk_bias=0.1,
        ball=Ball(torch.zeros(size), 2.0 * size**0.5) if balls else None,
    )
