"""The engine equals an independent reference: HF transformers with hooks at the same positions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoProcessor, Qwen2_5OmniThinkerForConditionalGeneration

from refusal_steering.bundle import load_bundle
from refusal_steering.reference import ReferenceSteering, greedy
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

    @torch.inference_mode()
    def logits(self, bundle: str) -> torch.Tensor | None:
        """The output layer's view of the bundle's prototypes."""
        prototypes = self.bundles[bundle].prototypes
        if prototypes is None:
            return None
        logits: torch.Tensor = self.model.get_output_embeddings()(prototypes.states).float()
        return logits

    def play(self, call: Call) -> tuple[list[int], list[float], ReferenceSteering | None]:
        inputs, state = self.inputs(call), None
        if call.bundle:
            state = ReferenceSteering(
                self.bundles[call.bundle].layers,
                inputs["input_ids"].shape[1],
                0.0 if call.shadow else call.strength,
                call.window,
                call.hold,
                media=tuple({kind.rstrip("2") for kind in call.media}),
                dose_limit=call.dose_limit,
                blend=0.0 if call.shadow else call.blend or 0.0,
                prototypes=self.logits(call.bundle),
            )
        tokens, scores = greedy(self.model, inputs, call.tokens, state)
        return tokens, [float(s[t]) for s, t in zip(scores, tokens, strict=True)], state


@pytest.fixture(scope="module")
def reference(engine_fixture: EngineFixture) -> Reference:
    return Reference(engine_fixture)


@pytest.mark.parametrize("number", range(len(CALLS)))
@pytest.mark.parametrize("engine", ["eager", "compiled", "v2"])
def test_output_and_strength_equal_the_reference(
    outcome: Outcomes, reference: Reference, engine: str, number: int
) -> None:
    call, answer = CALLS[number], outcome(engine).scenario("alone")[number]
    tokens, logprobs, state = reference.play(call)
    assert answer.tokens == tokens
    assert answer.logprobs == pytest.approx(logprobs, abs=LOGPROB)
    if state is None:
        return
    for position, coefficients in zip(answer.positions, answer.coefficients, strict=True):
        expected = [state.coefficients[layer][position] for layer in sorted(state.layers)]
        assert coefficients == pytest.approx(expected, rel=COEFFICIENT, abs=COEFFICIENT)
