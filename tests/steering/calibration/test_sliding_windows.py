"""Rows of a batch are those of each prompt alone, also where layers see a window of tokens."""

from __future__ import annotations

import pytest
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from refusal_steering.calibration.activations import collect
from refusal_steering.calibration.model import CalibrationModel
from tests.steering.chat_tokenizer import VOCABULARY, ChatTokenizer

LAYERS = 4
PROMPTS = ("one two three", " ".join("abcdefghijklmnopqrstuvwx"), "x y z", "p q " * 10)


@pytest.mark.parametrize("window", [4, 8, 64])
def test_rows_of_a_batch_are_those_of_each_prompt_alone(window: int) -> None:
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
    target = CalibrationModel(model, ChatTokenizer())
    rows = collect(target, PROMPTS, range(LAYERS - 1))
    for place, prompt in enumerate(PROMPTS):
        ids = torch.tensor([target.encode(prompt)])
        with torch.inference_mode():
            states = model(input_ids=ids, output_hidden_states=True).hidden_states
        for layer, found in rows.items():
            torch.testing.assert_close(found[place], states[layer + 1][0, -1], atol=1e-4, rtol=1e-4)
