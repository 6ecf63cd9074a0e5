"""The frozen language model behind the tower: what it answers to text, and how far sound is off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from deploy.demo.training.speech.embedding import Embedding

# As vLLM writes a request whose only content is a sound, in the model's chat format.
SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
BEFORE = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
SOUND = "Audio 1: "
AFTER = "<|im_end|>\n<|im_start|>assistant\n"
ANSWER_TOKENS = 16
KEPT = 64


@dataclass(frozen=True, slots=True)
class Lesson:
    """An answer to a text, and what the model thinks of each of its tokens.

    Attributes:
        answer: token ids [n].
        likely: ids [n, KEPT] of the tokens that the model finds most likely at each place.
        logits: their log probabilities [n, KEPT].
    """

    answer: Tensor
    likely: Tensor
    logits: Tensor


class Backbone:
    """The language model of the demo, in bfloat16, frozen."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM

        self.embedding = Embedding(folder)
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
        self.model.eval().requires_grad_(False)
        self._kept: list[tuple[Tensor, Tensor]] = []

    def text(self, written: str) -> Tensor:
        """The vectors of a request in text behind ``BEFORE``, up to where the answer begins."""
        return self.embedding.vectors(self.embedding.ids(written + AFTER))

    def sound(self, vectors: Tensor) -> Tensor:
        """The vectors of a request in sound, ``vectors`` [time, width] of a tower, as above."""
        start = self.embedding.vectors([*self.embedding.ids(SOUND), self.embedding.opening])
        return torch.cat(
            [
                start,
                vectors,
                self.embedding.vectors([self.embedding.closing, *self.embedding.ids(AFTER)]),
            ]
        )

    @torch.inference_mode()
    def answers(self, prompts: Sequence[Tensor], tokens: int) -> list[list[int]]:
        """Greedy answers to prompts of vectors."""
        start = self.embedding.vectors(self.embedding.ids(BEFORE))
        prompts = [torch.cat([start, prompt]) for prompt in prompts]
        most = max(map(len, prompts))
        padded = torch.stack([functional.pad(p, (0, 0, most - len(p), 0)) for p in prompts])
        mask = torch.tensor([[0] * (most - len(p)) + [1] * len(p) for p in prompts])
        written = self.model.generate(
            inputs_embeds=padded.bfloat16(), attention_mask=mask, max_new_tokens=tokens,
            do_sample=False, pad_token_id=self.embedding.tokenizer.pad_token_id,
        )  # fmt: skip
        ends = set(self.model.generation_config.eos_token_id)
        return [_until(row.tolist(), ends) for row in written]

    @torch.inference_mode()
    def lessons(self, texts: Sequence[str]) -> list[Lesson]:
        """Answers to texts, with the likely tokens at each of their places."""
        prompts = [self.text(text) for text in texts]
        answers = [torch.tensor(ids) for ids in self.answers(prompts, ANSWER_TOKENS)]
        thoughts = self.thoughts(prompts, answers)
        kept = [functional.log_softmax(t.float(), -1).topk(KEPT) for t in thoughts]
        return [
            Lesson(answer, top.indices, top.values)
            for answer, top in zip(answers, kept, strict=True)
        ]

    def thoughts(self, prompts: Sequence[Tensor], answers: Sequence[Tensor]) -> list[Tensor]:
        """Logits [n, vocabulary] at the places of each answer's tokens."""
        rows = [
            torch.cat([prompt, self.embedding.vectors(answer[:-1].tolist())])
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        padded = pad_sequence(rows, batch_first=True).bfloat16()
        lengths = torch.tensor([len(row) for row in rows])
        start, before = self._start(len(rows))
        mask = torch.arange(start + padded.shape[1]) < start + lengths[:, None]
        hidden = self.model.model(
            inputs_embeds=padded, attention_mask=mask.long(), past_key_values=before
        )
        states = [
            state[len(prompt) - 1 : len(row)]
            for state, prompt, row in zip(hidden.last_hidden_state, prompts, rows, strict=True)
        ]
        logits = self.model.lm_head(torch.cat(states).contiguous())
        return list(logits.split([len(state) for state in states]))

    def distance(self, prompts: Sequence[Tensor], lessons: Sequence[Lesson]) -> Tensor:
        """Mean divergence of what the model thinks after ``prompts`` from the lessons, in nats."""
        thoughts = self.thoughts(prompts, [lesson.answer for lesson in lessons])
        found = functional.log_softmax(torch.cat(thoughts).float(), -1)
        wanted = torch.cat([lesson.logits for lesson in lessons])
        found = found.gather(1, torch.cat([lesson.likely for lesson in lessons]))
        kept = (wanted.exp() * (wanted - found)).sum(1)
        rest, found_rest = (
            torch.log1p(-part.exp().sum(1).clamp(max=1 - 1e-5)) for part in (wanted, found)
        )
        return (kept + rest.exp() * (rest - found_rest)).mean()

    def _start(self, batch: int) -> tuple[int, Any]:
        """How many tokens ``BEFORE`` has, and what every layer keeps of them for a batch."""
        from transformers import DynamicCache

        ids = torch.tensor([self.embedding.ids(BEFORE)])
        if not self._kept:
            with torch.no_grad():
                first = self.model.model(input_ids=ids, use_cache=True).past_key_values
            self._kept = [(layer.keys, layer.values) for layer in first.layers]
        cache = DynamicCache()
        for number, kept in enumerate(self._kept):
            cache.update(*(part.expand(batch, -1, -1, -1) for part in kept), number)
        return ids.shape[1], cache


def _until(ids: list[int], ends: set[int]) -> list[int]:
    """The ids up to and with the first end."""
    place = next((number for number, token in enumerate(ids) if token in ends), len(ids) - 1)
    return ids[: place + 1]
