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
from deploy.demo.training.speech.grammar import Sentence
from refusal_steering.runtime.precision import slow_on_this_cpu

# As vLLM writes a request whose only content is a sound, in the model's chat format.
SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
BEFORE = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
SOUND = "Audio 1: "
AFTER = "<|im_end|>\n<|im_start|>assistant\n"
ANSWER_TOKENS = 16
KEPT = 64
# Blocks behind which the residual stream after speech is compared with the one after the text.
LAYERS = (8, 10, 12, 14, 17)


@dataclass(frozen=True, slots=True)
class Lesson:
    """An answer to a text, what the model thinks of each of its tokens, and its residual stream.

    Attributes:
        answer: token ids [n].
        likely: ids [n, KEPT] of the tokens that the model finds most likely at each place.
        logits: their log probabilities [n, KEPT].
        states: the stream [LAYERS, words + tokens of AFTER, width], at the last token of each word
            and at those between the request and the answer.
    """

    answer: Tensor
    likely: Tensor
    logits: Tensor
    states: Tensor


@dataclass(frozen=True, slots=True)
class Thoughts:
    """What the model computes of prompts and answers.

    Attributes:
        logits: [n, vocabulary] at the places of each answer's tokens.
        states: the stream [LAYERS, tokens, width] of each prompt.
    """

    logits: list[Tensor]
    states: list[Tensor]


@dataclass(frozen=True, slots=True)
class Distances:
    """How far prompts are from their lessons.

    Attributes:
        answers: mean divergence of what the model thinks at the answers' places, in nats.
        states: mean square of the stream's difference, in squares of the lesson's own length.
    """

    answers: Tensor
    states: Tensor


class Backbone:
    """The language model of the demo, frozen, in the precision that this CPU is fast in."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM

        self.embedding = Embedding(folder)
        self.dtype = torch.float32 if slow_on_this_cpu(torch.bfloat16) else torch.bfloat16
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=self.dtype)
        self.model.eval().requires_grad_(False)
        self._kept: list[tuple[Tensor, Tensor]] = []
        # How many tokens stand before a sound in its request.
        self.before_sound = len(self.embedding.ids(SOUND)) + 1
        self._after = len(self.embedding.ids(AFTER))

    def text(self, written: str) -> Tensor:
        """The vectors of a request in text behind ``BEFORE``, up to where the answer begins."""
        return self.embedding.vectors(self.embedding.ids(written + AFTER))

    def sound(self, vectors: Tensor) -> Tensor:
        """The vectors of a request in sound, ``vectors`` [time, width] of a tower, as above."""
        opening = [*self.embedding.ids(SOUND), self.embedding.opening]
        return torch.cat(
            [
                self.embedding.vectors(opening),
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
            inputs_embeds=padded.to(self.dtype), attention_mask=mask, max_new_tokens=tokens,
            do_sample=False, pad_token_id=self.embedding.tokenizer.pad_token_id,
        )  # fmt: skip
        ends = set(self.model.generation_config.eos_token_id)
        return [_until(row.tolist(), ends) for row in written]

    @torch.inference_mode()
    def lessons(self, sentences: Sequence[Sentence]) -> list[Lesson]:
        """Answers to sentences in text, with the likely tokens at each of their places."""
        prompts = [self.text(sentence.written) for sentence in sentences]
        answers = [torch.tensor(ids) for ids in self.answers(prompts, ANSWER_TOKENS)]
        thoughts = self.thoughts(prompts, answers)
        kept = [functional.log_softmax(t.float(), -1).topk(KEPT) for t in thoughts.logits]
        states = [
            state[:, self._places(self._words(sentence), len(prompt))]
            for state, sentence, prompt in zip(thoughts.states, sentences, prompts, strict=True)
        ]
        return [
            Lesson(answer, top.indices, top.values, state)
            for answer, top, state in zip(answers, kept, states, strict=True)
        ]

    def thoughts(self, prompts: Sequence[Tensor], answers: Sequence[Tensor]) -> Thoughts:
        """What the model computes of prompts of vectors and answers of token ids."""
        rows = [
            torch.cat([prompt, self.embedding.vectors(answer[:-1].tolist())])
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        padded = pad_sequence(rows, batch_first=True).to(self.dtype)
        lengths = torch.tensor([len(row) for row in rows])
        start, before = self._start(len(rows))
        mask = torch.arange(start + padded.shape[1]) < start + lengths[:, None]
        hidden = self.model.model(
            inputs_embeds=padded,
            attention_mask=mask.long(),
            past_key_values=before,
            output_hidden_states=True,
        )
        last = [
            state[len(prompt) - 1 : len(row)]
            for state, prompt, row in zip(hidden.last_hidden_state, prompts, rows, strict=True)
        ]
        logits = self.model.lm_head(torch.cat(last).contiguous())
        # The first of the hidden states is what goes into the first block.
        read = torch.stack([hidden.hidden_states[layer + 1] for layer in LAYERS], 1)
        return Thoughts(
            list(logits.split([len(state) for state in last])),
            [state[:, : len(prompt)] for state, prompt in zip(read, prompts, strict=True)],
        )

    def distances(
        self, prompts: Sequence[Tensor], lessons: Sequence[Lesson], words: Sequence[Tensor | None]
    ) -> Distances:
        """How far the model is after ``prompts`` from the lessons.

        ``words`` are the places of each prompt's words in it; ``None`` where they are not known.
        """
        thoughts = self.thoughts(prompts, [lesson.answer for lesson in lessons])
        found = functional.log_softmax(torch.cat(thoughts.logits).float(), -1)
        wanted = torch.cat([lesson.logits for lesson in lessons])
        found = found.gather(1, torch.cat([lesson.likely for lesson in lessons]))
        kept = (wanted.exp() * (wanted - found)).sum(1)
        rest, found_rest = (
            torch.log1p(-part.exp().sum(1).clamp(max=1 - 1e-5)) for part in (wanted, found)
        )
        answers = (kept + rest.exp() * (rest - found_rest)).mean()
        away = [
            self._away(state, lesson, known)
            for state, lesson, known in zip(thoughts.states, lessons, words, strict=True)
        ]
        return Distances(answers, torch.stack(away).mean())

    def _away(self, state: Tensor, lesson: Lesson, words: Tensor | None) -> Tensor:
        """Squared distance of a prompt's stream from a lesson's, in squares of its own length."""
        known = torch.empty(0, dtype=torch.long) if words is None else words
        found = state[:, self._places(known, state.shape[1])].float()
        wanted = lesson.states[:, lesson.states.shape[1] - found.shape[1] :]
        apart: Tensor = (found - wanted).square().sum(-1) / wanted.square().sum(-1)
        return apart.mean()

    def _places(self, words: Tensor, length: int) -> Tensor:
        """Where the stream is compared: at the words, and behind the request."""
        return torch.cat([words, torch.arange(length - self._after, length)])

    def _words(self, sentence: Sentence) -> Tensor:
        """The place of each word's last token in the sentence's text."""
        parts = sentence.written.rstrip("?.").split(" ")
        ends = [
            len(self.embedding.ids(" ".join(parts[: number + 1]))) for number in range(len(parts))
        ]
        return torch.tensor(ends) - 1

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
