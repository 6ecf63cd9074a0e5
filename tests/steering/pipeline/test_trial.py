"""A trial answers as the reference does under the terms that a request would be served by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from refusal_steering.bundle import RiskPass, SteeringBundle, Window, save_bundle
from refusal_steering.calibration.activations import collect
from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.coefficient import LayerSteering
from refusal_steering.decoder_hooks import output_logits
from refusal_steering.methods.ras import similarities
from refusal_steering.pipeline.trial import Case, run_trial
from refusal_steering.prototypes import summarise
from refusal_steering.reference import greedy
from refusal_steering.spec import SteeringSpec

CASES = [
    Case("plain", "harmful", False, prompt)
    for prompt in ("one two three", "four", "five six seven eight", "nine ten")
]
PROMPTS = [case.prompt for case in CASES]
TOKENS, COEFFICIENT = 12, 12.0
RISK_PASS = RiskPass(
    context_prompt="What is it?", risk_prompt="{question} ?", base=0.2, slope=8.0, cap=0.8
)


def saved(path: Path, strategy: str, spec: SteeringSpec, **more: Any) -> SteeringBundle:
    manifest = {
        "name": "trial",
        "strategy": strategy,
        "model": {"id": "tiny", "hidden_size": 32, "num_layers": 4},
        **spec.manifest_terms,
        **more,
    }
    return save_bundle(path, spec.layers, manifest, spec.prototypes)


def layers(coefficient: float) -> dict[int, LayerSteering]:
    generator = torch.Generator().manual_seed(4)
    units = {at: torch.randn(32, generator=generator) for at in (1, 2)}
    return {at: LayerSteering.static(u / u.norm(), coefficient) for at, u in units.items()}


def expected(target: CalibrationModel, specs: Sequence[SteeringSpec | None]) -> tuple[str, ...]:
    answers = []
    for prompt, spec in zip(PROMPTS, specs, strict=True):
        inputs = {"input_ids": torch.tensor([target.encode(prompt)])}
        tokens = greedy(target.model, inputs, TOKENS, spec).tokens
        end = tokens.index(1) if 1 in tokens else len(tokens)
        answers.append(target.tokenizer.decode(tokens[:end]))
    return tuple(answers)


@pytest.mark.parametrize("strength", [0.5, 2.0])
def test_the_bundles_limit_and_window_hold_in_a_trial(
    target: CalibrationModel, tmp_path: Path, strength: float
) -> None:
    rows = collect(target, PROMPTS, [1])[1]
    limit = COEFFICIENT / float(rows.norm(dim=-1).median())
    window = Window(decode_tokens=4)
    spec = SteeringSpec.of_parts(layers(COEFFICIENT), window, dose_limit=limit)
    bundle = saved(tmp_path, "static", spec)
    found = run_trial(target, CASES, bundle, strength)
    assert (found.name, found.strength) == ("static", strength)
    asked = SteeringSpec.of(bundle, strength=strength)
    assert found.answers == expected(target, [asked] * len(CASES))
    free = expected(target, [replace(asked, dose_limit=None)] * len(CASES))
    assert (found.answers != free) == (strength == 2.0), "the limit binds at strength 2 alone"


@pytest.mark.parametrize("tokens", [None, 1])
def test_every_prompt_is_blended_by_its_own_risk(
    target: CalibrationModel, tmp_path: Path, tokens: int | None
) -> None:
    risk_pass = RISK_PASS.model_copy(update={"tokens": tokens})
    states = 3.0 * torch.randn(2, 32, generator=torch.Generator().manual_seed(5))
    prototypes = summarise(states, output_logits(target.model, states), RISK_PASS.discount)
    spec = SteeringSpec.of_parts(layers(0.0), Window(decode_tokens=1), prototypes=prototypes)
    bundle = saved(tmp_path, "ras", spec, risk_pass=risk_pass)
    similar = similarities(
        target, PROMPTS, prototypes, RISK_PASS.discount, RISK_PASS.risk_prompt, tokens
    )
    published = similarities(target, PROMPTS, prototypes, 0.3, RISK_PASS.risk_prompt)
    assert torch.equal(similar, published) == (tokens is None)
    shares = [RISK_PASS.share(RISK_PASS.risk(float(s)), 1.5) for s in similar]
    assert len(set(shares)) > 1, "the prompts differ in risk"
    found = run_trial(target, CASES, bundle, 1.5)
    assert found.answers == expected(target, [SteeringSpec.of(bundle, blend=s) for s in shares])


def test_without_a_bundle_the_model_answers_as_it_is(target: CalibrationModel) -> None:
    found = run_trial(target, CASES, None)
    assert (found.name, found.strength) == ("off", 0.0)
    assert found.answers == expected(target, [None] * len(CASES))
