"""The frozen language model behind the tower, asked about vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."


class Backbone:
    """The frozen language model."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
        self.model = model.eval().requires_grad_(False)
        self.table: Tensor = self.model.get_input_embeddings().weight

    def ids(self, text: str) -> list[int]:
        """Tokens of a text that may hold special ones."""
        found: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return found

    def ask(self, picture: Tensor, question: str) -> Tensor:
        """Input vectors of a chat with a picture [cells, width], as the server writes it."""
        before = self.ids(
            f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n<|vision_start|>"
        )
        after = self.ids(f"<|vision_end|>\n{question}<|im_end|>\n<|im_start|>assistant\n")
        return torch.cat([self.table[before], picture.to(self.table.dtype), self.table[after]])

    @torch.inference_mode()
    def answer(self, inputs: Tensor, tokens: int) -> list[str]:
        """Greedy answers to input vectors [chats, length, width]."""
        past: Any = None
        said = []
        for _ in range(tokens):
            out = self.model(
                inputs_embeds=inputs, past_key_values=past, use_cache=True, logits_to_keep=1
            )
            past = out.past_key_values
            said.append(out.logits[:, -1].argmax(-1))
            inputs = self.table[said[-1]][:, None]
        end = self.tokenizer.eos_token_id
        rows = (row[: [*row, end].index(end)] for row in torch.stack(said, 1).tolist())
        return [self.tokenizer.decode(row) for row in rows]
