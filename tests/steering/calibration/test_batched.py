"""Batches answer as the reference does, one prompt at a time, steered or not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from refusal_steering.bundle import Window
from refusal_steering.calibration.activations import collect
from refusal_steering.calibration.answers import answer_all
from refusal_steering.calibration.batched import BatchSteering, batch_steered
from refusal_steering.calibration.canary import (
    NoCanaryError,
    canary_of,
    choose_canary,
    moved_tokens,
    surest,
)
from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.calibration.token_rows.openings import openings
from refusal_steering.coefficient import LayerSteering
from refusal_steering.errors import SteeringError
from refusal_steering.gate.prompt_gate import Pooling, PromptGate, TokenProbe
from refusal_steering.prototypes import RefusalPrototypes
from refusal_steering.reference import greedy
from refusal_steering.spec import SteeringSpec

PROMPTS = ["one two three", "four", "five six seven eight nine ten", "eleven twelve"]
STEPS = 6


def layers(ceiling: float = 6.0) -> dict[int, LayerSteering]:
    generator = torch.Generator().manual_seed(3)

    def layer() -> LayerSteering:
        direction = torch.randn(32, generator=generator)
        return LayerSteering(
            direction=direction / direction.norm(),
            input_weight=torch.randn(4, 32, generator=generator),
            input_bias=torch.zeros(4),
            output_weight=torch.full((4,), 0.5),
            output_bias=0.1,
            floor=0.0,
            ceiling=ceiling,
            risk_weight=torch.zeros(32),
            risk_bias=0.0,
        )

    return {1: layer(), 2: layer()}


def reference_answers(target: CalibrationModel, spec: SteeringSpec | None) -> list[str]:
    answers = []
    for prompt in PROMPTS:
        inputs = {"input_ids": torch.tensor([target.encode(prompt)])}
        tokens = greedy(target.model, inputs, STEPS, spec).tokens
        end = tokens.index(1) if 1 in tokens else len(tokens)
        answers.append(target.tokenizer.decode(tokens[:end]))
    return answers


def test_unsteered_batches_equal_single_prompts(target: CalibrationModel) -> None:
    assert answer_all(target, PROMPTS, STEPS) == reference_answers(target, None)


@pytest.mark.parametrize("hold", [True, False])
@pytest.mark.parametrize("decode_tokens", [0, 2, None])
def test_steered_batches_equal_the_reference(
    target: CalibrationModel, hold: bool, decode_tokens: int | None
) -> None:
    spec = SteeringSpec(layers(), decode_tokens=decode_tokens, hold=hold)
    steered = answer_all(target, PROMPTS, STEPS, spec)
    assert steered == reference_answers(target, spec)
    assert steered != answer_all(target, PROMPTS, STEPS)


@pytest.mark.parametrize("changes", [{"strength": 0.0}, {"shadow": True}])
def test_strength_zero_and_shadow_are_unsteered(
    target: CalibrationModel, changes: dict[str, Any]
) -> None:
    spec = SteeringSpec(layers(), **changes)
    assert answer_all(target, PROMPTS, STEPS, spec) == answer_all(target, PROMPTS, STEPS)


@pytest.mark.parametrize("own_shares", [False, True])
def test_blended_batches_equal_the_reference(target: CalibrationModel, own_shares: bool) -> None:
    states = 3.0 * torch.randn(2, 32, generator=torch.Generator().manual_seed(5))
    prototypes = RefusalPrototypes(states, torch.zeros(1, dtype=torch.int64), torch.zeros(1), 0.0)
    silent = {1: LayerSteering.static(layers()[1].direction, 0.0)}
    spec = replace(SteeringSpec.of_parts(silent, Window(), prototypes=prototypes), blend=0.9)
    shares = torch.full((len(PROMPTS),), 0.9) if own_shares else None
    blended = answer_all(target, PROMPTS, STEPS, spec, shares)
    assert blended == reference_answers(target, spec)
    assert blended != answer_all(target, PROMPTS, STEPS)


@pytest.mark.parametrize("hold", [True, False])
@pytest.mark.parametrize("strength", [0.5, 2.0])
def test_a_dose_limit_binds_in_batches_as_in_the_reference(
    target: CalibrationModel, hold: bool, strength: float
) -> None:
    strong = {at: LayerSteering.static(one.direction, 40.0) for at, one in layers().items()}
    limited = SteeringSpec(strong, hold=hold, dose_limit=0.2, strength=strength)
    answers = answer_all(target, PROMPTS, STEPS, limited)
    assert answers == reference_answers(target, limited)
    assert answers != answer_all(target, PROMPTS, STEPS, replace(limited, dose_limit=None))
    hidden = torch.randn(3, 5, 32, generator=torch.Generator().manual_seed(1))
    moved = BatchSteering(limited).steer(1, hidden) - hidden
    lengths, bound = moved.norm(dim=-1), 0.2 * hidden.norm(dim=-1)
    assert bool((lengths <= bound + 1e-4).all()) and bool((lengths > 0.99 * bound).any())


def test_collected_rows_are_those_of_a_full_pass(target: CalibrationModel) -> None:
    rows = collect(target, PROMPTS, [0, 2])
    for at, prompt in enumerate(PROMPTS):
        ids = torch.tensor([target.encode(prompt)])
        with torch.inference_mode():
            states = target.model(ids, output_hidden_states=True).hidden_states
        torch.testing.assert_close(rows[2][at], states[3][0, -1], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(rows[0][at], states[1][0, -1], atol=1e-4, rtol=1e-4)


def test_canary_names_the_tokens_that_moved_most() -> None:
    plain = torch.linspace(0.0, -10.0, 40)
    steered = plain.clone()
    steered[2], steered[39] = steered[2] + 3.0, steered[39] - 20.0
    shift = moved_tokens(plain, steered)
    assert 4 <= len(shift) <= 8 and shift[2] == pytest.approx(3.0) and 39 not in shift


def test_chosen_canary_matches_the_reference(target: CalibrationModel) -> None:
    spec = SteeringSpec(layers(20.0))
    canary = choose_canary(target, PROMPTS, spec)
    inputs = {"input_ids": torch.tensor([canary.token_ids])}
    plain = greedy(target.model, inputs, 1).logprobs[0]
    steered = greedy(target.model, inputs, 1, spec).logprobs[0]
    for token, shift in canary.shift.items():
        assert float(steered[int(token)] - plain[int(token)]) == pytest.approx(shift, abs=1e-3)
    assert canary.tolerance < max(map(abs, canary.shift.values()))


def test_canary_refuses_steering_that_moves_nothing(target: CalibrationModel) -> None:
    idle = {1: LayerSteering.static(layers()[1].direction, 0.0)}
    with pytest.raises(NoCanaryError, match="move too little: give a larger dose"):
        choose_canary(target, PROMPTS, SteeringSpec(idle))


def test_steering_that_loses_the_likeliest_tokens_asks_for_less() -> None:
    lost, still = canary_of([1], {}), canary_of([1], dict.fromkeys(range(6), 0.0))
    with pytest.raises(NoCanaryError, match=r"1 of 3 cannot.*give a smaller dose"):
        surest([still, lost, still])
    with pytest.raises(NoCanaryError, match=r"2 of 2 cannot.*give a larger dose"):
        surest([still, still])


def gate(threshold: float, pooling: Pooling = "both") -> PromptGate:
    generator = torch.Generator().manual_seed(7)

    def probe() -> TokenProbe:
        weight, query, value = torch.randn(3, 32, generator=generator)
        return TokenProbe(weight, 0.0, query, value, 0.0)

    return PromptGate({0: probe(), 1: probe()}, pooling, threshold, 8.0)


@pytest.mark.parametrize("hold", [True, False])
@pytest.mark.parametrize("pooling", ["max", "attention", "both"])
def test_gated_batches_equal_the_reference(
    target: CalibrationModel, hold: bool, pooling: Pooling
) -> None:
    scores = [gate(0.0, pooling).score(rows).score for rows in prompt_rows(target)]
    middle = gate(sorted(scores)[1] - 4.0, pooling)
    wanted = torch.tensor([middle.opening(score) for score in scores])
    assert wanted.tolist().count(0.0) < len(PROMPTS) > wanted.tolist().count(1.0)
    torch.testing.assert_close(openings(target, PROMPTS, middle), wanted, rtol=0, atol=1e-4)
    spec = SteeringSpec(layers(), gate=middle, hold=hold)
    assert answer_all(target, PROMPTS, STEPS, spec) == reference_answers(target, spec)


def prompt_rows(target: CalibrationModel) -> list[dict[int, torch.Tensor]]:
    ids = [target.encode(prompt) for prompt in PROMPTS]
    states = [target.model(torch.tensor([one]), output_hidden_states=True) for one in ids]
    return [{at: s.hidden_states[at + 1][0].detach() for at in (0, 1)} for s in states]


def test_a_gate_that_stays_shut_leaves_batches_alone(target: CalibrationModel) -> None:
    shut = SteeringSpec(layers(), gate=gate(1e3))
    assert answer_all(target, PROMPTS, STEPS, shut) == answer_all(target, PROMPTS, STEPS)


def test_a_gated_batch_without_openings_is_refused(target: CalibrationModel) -> None:
    state = BatchSteering(SteeringSpec(layers(), gate=gate(0.0)))
    with (
        pytest.raises(SteeringError, match="openings"),
        batch_steered(target.decoder_layers, state),
    ):
        pass
