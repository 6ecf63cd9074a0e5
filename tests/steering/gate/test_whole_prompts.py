"""Whether a gate can read a model's prompts is known by its configuration."""

from __future__ import annotations

import pytest
from transformers import Gemma3TextConfig, LlamaConfig, MistralConfig, PretrainedConfig, Qwen2Config

from refusal_steering.gate.whole_prompts import keeps_prompts


@pytest.mark.parametrize(
    ("config", "keeps"),
    (
        (LlamaConfig(), True),
        (MistralConfig(sliding_window=None), True),
        (MistralConfig(sliding_window=4096), False),
        (Qwen2Config(num_hidden_layers=4, use_sliding_window=False), True),
        (Gemma3TextConfig(num_hidden_layers=12), True),
        (Gemma3TextConfig(num_hidden_layers=2, layer_types=["sliding_attention"] * 2), False),
    ),
)
def test_a_layer_that_attends_to_every_token_keeps_prompts(
    config: PretrainedConfig, keeps: bool
) -> None:
    assert keeps_prompts(config) is keeps
