"""Rows of a batch are those of each prompt alone, also where layers see a window of tokens."""

from __future__ import annotations

import pytest
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from refusal_steering.calibration.activations import collect
from refusal_steering.calibration.answers import answer_all
from refusal_steering.calibration.model import CalibrationModel
from refusal_steering.coefficient import LayerSteering
from refusal_steering.reference import greedy
from refusal_steering.spec import SteeringSpec
from tests.steering.chat_tokenizer import VOCABULARY, ChatTokenizer

LAYERS, STEPS = 4, 6
PROMPTS = ("one two three", " ".join("abcdefghijklmnopqrstuvwx"), "x y z", "p q " * 10)


def sliding(window: int) -> CalibrationModel:
    """A tiny random Gemma 3, whose every second layer sees ``window`` tokens."""
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        intermediate_size=64,
        sliding_window=window,
        layer_types=["sliding_attention", "full_attention"] * (LAYERS // 2),
        max_position_embeddings=256,
    )
    model = Gemma3ForCausalLM(config).eval()
    model.generation_config.eos_token_id = 1
    return CalibrationModel(model, ChatTokenizer())


@pytest.mark.parametrize("window", [4, 8, 64])
def test_rows_of_a_batch_are_those_of_each_prompt_alone(window: int) -> None:
    target = sliding(window)
    rows = collect(target, PROMPTS, range(LAYERS - 1))
    for place, prompt in enumerate(PROMPTS):
        ids = torch.tensor([target.encode(prompt)])
        with torch.inference_mode():
            states = target.model(input_ids=ids, output_hidden_states=True).hidden_states
        for layer, found in rows.items():
            torch.testing.assert_close(found[place], states[layer + 1][0, -1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("window", [4, 8, 64])
@pytest.mark.parametrize("dose", [0.0, 30.0])
def test_answers_of_a_batch_are_those_of_each_prompt_alone(window: int, dose: float) -> None:
    target = sliding(window)
    direction = torch.randn(32, generator=torch.Generator().manual_seed(1))
    spec = SteeringSpec({1: LayerSteering.static(direction / direction.norm(), dose)})
    alone = [answer_all(target, [prompt], STEPS, spec)[0] for prompt in PROMPTS]
    assert answer_all(target, PROMPTS, STEPS, spec) == alone
    for prompt, found in zip(PROMPTS, alone, strict=True):
        tokens = greedy(
            target.model, {"input_ids": torch.tensor([target.encode(prompt)])}, STEPS, spec
        ).tokens
        end = tokens.index(1) if 1 in tokens else len(tokens)
        assert found == target.tokenizer.decode(tokens[:end])
