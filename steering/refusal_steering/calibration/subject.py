"""The model under calibration, and left-padded batches of prompts for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from refusal_steering.bundle import ModelIdentity


@dataclass(frozen=True, slots=True)
class Batch:
    """Prompts padded on the left; ``rows`` are their places in the caller's list."""

    rows: list[int]
    input_ids: Tensor
    attention_mask: Tensor

    @property
    def positions(self) -> Tensor:
        """Position ids [B, T]: 0 at each prompt's first real token."""
        return (self.attention_mask.cumsum(-1) - 1).clamp(min=0)


@dataclass(frozen=True, slots=True)
class Subject:
    """A causal language model and its tokenizer, ready for inference."""

    model: Any
    tokenizer: Any

    @classmethod
    def load(cls, path: Path) -> Subject:
        """Read a model folder in its own precision."""
        model = AutoModelForCausalLM.from_pretrained(path, dtype="auto").eval()
        return cls(model, AutoTokenizer.from_pretrained(path))

    @property
    def decoder_layers(self) -> Sequence[nn.Module]:
        """The decoder layers in order."""
        layers: Sequence[nn.Module] = self.model.get_decoder().layers
        return layers

    def identity(self, name: str) -> ModelIdentity:
        """What a bundle's manifest says of the model; ``name`` is for people."""
        config = self.model.config.get_text_config()
        return ModelIdentity(
            id=name, hidden_size=config.hidden_size, num_layers=config.num_hidden_layers
        )

    def encode(self, prompt: str) -> list[int]:
        """Token ids of one user message under the chat template, up to the answer's start."""
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def batches(self, prompts: Sequence[str], size: int) -> Iterator[Batch]:
        """Batches of at most ``size`` prompts of like length."""
        encoded = [self.encode(prompt) for prompt in prompts]
        order = sorted(range(len(encoded)), key=lambda row: len(encoded[row]))
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            yield pad_left(rows, [encoded[row] for row in rows], self.tokenizer.pad_token_id or 0)


def pad_left(rows: list[int], sequences: list[list[int]], pad: int) -> Batch:
    """One batch [B, T] of token id sequences."""
    width = max(map(len, sequences))
    ids = [[pad] * (width - len(ids)) + ids for ids in sequences]
    mask = [[0] * (width - len(ids)) + [1] * len(ids) for ids in sequences]
    return Batch(rows, torch.tensor(ids), torch.tensor(mask))
