"""The backbone's tokens and their vectors, without the backbone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deploy.demo.training.speech import grammar

WEIGHTS, NAME = "model.safetensors", "model.embed_tokens.weight"


class Embedding:
    """The tokenizer of a model's folder and the table of its input vectors."""

    def __init__(self, folder: Path) -> None:
        from safetensors import safe_open
        from transformers import AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        with safe_open(folder / WEIGHTS, "pt") as file:
            self.table: Tensor = file.get_tensor(NAME)
        # The marks around a sound take the second and the third spare row.
        last = max(self.ids("<|file_sep|>"))
        self.opening, self.closing = last + 2, last + 3

    def ids(self, text: str) -> list[int]:
        """Token ids of a text."""
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def words(self, words: Sequence[str]) -> list[list[int]]:
        """Token ids of each word of a sentence."""
        return [self.ids(" " + grammar.spelling(word)) for word in words]

    def vectors(self, ids: Sequence[int]) -> Tensor:
        """Rows of the table [n, width], in float32."""
        return self.table[torch.tensor(ids, dtype=torch.long)].float()
