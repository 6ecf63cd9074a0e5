"""The engine equals an independent reference: HF transformers with hooks at the same positions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AutoProcessor, Qwen2_5OmniThinkerForConditionalGeneration

from refusal_steering.bundle import load_bundle
from refusal_steering.reference import Generated, greedy
from tests.engine.calls import CALLS
from tests.engine.conftest import EngineFixture, Outcomes
from tests.engine.media import build
from tests.engine.spec import Call

pytestmark = pytest.mark.engine
LOGPROB = 1e-3
COEFFICIENT = 1e-3


class Reference:
    """The tiny model in HF transformers, float32, one request at a time."""

    def __init__(self, engine_fixture: EngineFixture):
        self.model = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(
            engine_fixture.model, dtype=torch.float32
        ).eval()
        self.processor = AutoProcessor.from_pretrained(engine_fixture.model)
        self.bundles = {name: load_bundle(path) for name, path in engine_fixture.bundles.items()}

    def inputs(self, call: Call) -> dict[str, Any]:
        data, media = build(call.media), {}
        if "image" in data:
            media["images"] = [data["image"]]
        if "audio" in data:
            samples, rate = data["audio"]
            media |= {"audio": [samples], "sampling_rate": rate}
        if "video" in data:
            media["videos"] = [data["video"]]
        return dict(self.processor(text=[call.prompt], return_tensors="pt", **media))

    def play(self, call: Call) -> Generated:
        spec = call.steering(self.bundles[call.bundle]) if call.bundle else None
        return greedy(self.model, self.inputs(call), call.tokens, spec)


@pytest.fixture(scope="module")
def reference(engine_fixture: EngineFixture) -> Reference:
    return Reference(engine_fixture)


def test_dose_limits_bind_for_some_rows_and_not_for_others(reference: Reference) -> None:
    """What follows says nothing of a limit that never binds, or always."""
    bound = []
    for call in CALLS:
        if call.dose_limit is not None:
            limited, free = (
                reference.play(replace(call, tokens=1, dose_limit=limit)).coefficients
                for limit in (call.dose_limit, None)
            )
            first = min(limited)
            bound.append(limited[first] != pytest.approx(free[first], rel=COEFFICIENT))
    assert any(bound) and not all(bound)


def test_boot_canaries_are_measured_under_the_limit_that_holds(outcome: Outcomes) -> None:
    found = outcome("eager").facts["canary"]
    assert found["limited"] == ""
    assert "moves token" in found["mismeasured"]


@pytest.mark.parametrize("number", range(len(CALLS)))
@pytest.mark.parametrize("engine", ["eager", "compiled", "v2"])
def test_output_and_strength_equal_the_reference(
    outcome: Outcomes, reference: Reference, engine: str, number: int
) -> None:
    call, answer = CALLS[number], outcome(engine).scenario("alone")[number]
    tokens, scores, coefficients = reference.play(call)
    logprobs = [float(score[token]) for score, token in zip(scores, tokens, strict=True)]
    assert answer.tokens == tokens
    assert answer.logprobs == pytest.approx(logprobs, abs=LOGPROB)
    for position, found in zip(answer.positions, answer.coefficients, strict=True):
        expected = [coefficients[layer][position] for layer in sorted(coefficients)]
        assert found == pytest.approx(expected, rel=COEFFICIENT, abs=COEFFICIENT)
