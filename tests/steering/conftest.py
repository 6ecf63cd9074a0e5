"""Tiny random models, one with a tokenizer that counts words: no downloads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from refusal_steering.calibration.model import CalibrationModel
from tests.models.tiny_chat import write_model

VOCABULARY = 64


class WordTokenizer:
    """Maps each word to an id; enough of a tokenizer for a :class:`CalibrationModel`."""

    pad_token_id = 0
    eos_token_id = 1

    def apply_chat_template(self, messages: list[dict[str, str]], **_: object) -> str:
        """The user's words and a mark where the answer starts."""
        return messages[0]["content"] + " >"

    def __call__(self, text: str, **_: object) -> dict[str, list[int]]:
        """Ids from 2 on, the same for the same word."""
        ids = [2 + sum(map(ord, word)) % (VOCABULARY - 2) for word in text.split()]
        return {"input_ids": ids}

    def decode(self, ids: list[int], **_: object) -> str:
        """The ids as numbers."""
        return " ".join(map(str, ids))


@pytest.fixture(scope="package")
def target() -> CalibrationModel:
    """Four random layers of hidden size 32 in float32."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        eos_token_id=1,
        pad_token_id=0,
        initializer_range=0.3,
    )
    return CalibrationModel(Qwen2ForCausalLM(config).eval(), WordTokenizer())


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random model that has the same sizes, and a real tokenizer."""
    return write_model(tmp_path_factory.mktemp("models") / "tiny")
