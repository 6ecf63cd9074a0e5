"""The folder of a tiny random chat model of text."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from tests.models.tiny_tokenizer import write_tokenizer

LAYERS, SIZE, CONTEXT = 4, 32, 2048


def write_model(out: Path) -> Path:
    """A Qwen2 of random weights in ``out``, with a tokenizer and a chat template."""
    out.mkdir(parents=True)
    vocabulary = write_tokenizer(out)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=vocabulary.rows,
        hidden_size=SIZE,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        num_key_value_heads=1,
        eos_token_id=vocabulary.special["<|im_end|>"],
        pad_token_id=vocabulary.special["<|endoftext|>"],
        initializer_range=0.3,
        max_position_embeddings=CONTEXT,
    )
    Qwen2ForCausalLM(config).save_pretrained(out)
    return out
