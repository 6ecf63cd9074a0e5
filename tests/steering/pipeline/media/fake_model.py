"""A served model of a few lines, which reads words in text and in media and can be steered.

Rows are noise of the request plus a shift for harmful words. A steered layer moves all later rows,
and logits are a fixed matrix over the last one, as in a model.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from refusal_steering.bundle import ModelIdentity, SteeringBundle
from refusal_steering.engine import EngineAnswer, EngineFacts, Messages, PromptRows, Steered
from refusal_steering.errors import SteeringError
from refusal_steering.gate.prompt_gate import PromptGate
from refusal_steering.prompts.corpus import Corpus
from refusal_steering.prompts.gate_examples import GateExamples

HIDDEN, LAYERS, VOCABULARY = 24, 6, 40
BAD = "steal"
REFUSAL = "I'm sorry, but I can't assist with that."
FACTS = EngineFacts(
    model="fake",
    identity=ModelIdentity(id="fake", hidden_size=HIDDEN, num_layers=LAYERS),
    takes={"image": 2, "audio": 1},
    context=4096,
    vocabulary=VOCABULARY,
    linear_logits=True,
    digest="f" * 64,
)


TURN, END = 256, 257


class FakeTokenizer:
    """Bytes, and two special tokens around turns."""

    added_tokens_decoder = {TURN: "<turn>", END: "<end>"}  # noqa: RUF012
    eos_token_id, pad_token_id = END, 0

    def __call__(self, text: str, **_: object) -> dict[str, list[int]]:
        ids = list(text.replace("<turn>", "\x01").replace("<end>", "\x02").encode())
        return {"input_ids": [{1: TURN, 2: END}.get(one, one) for one in ids]}

    def decode(self, ids: Sequence[int]) -> str:
        marks = {TURN: b"<turn>", END: b"<end>"}
        return b"".join(marks.get(one) or bytes([one]) for one in ids).decode()

    def apply_chat_template(self, messages: Sequence[dict[str, str]], **_: object) -> str:
        turns = (f"<turn>{one['role']}\n{one['content']}<end>" for one in messages)
        return "".join(turns) + "<turn>assistant\n"


def twin(spread: float = 0.02) -> LlamaForCausalLM:
    """A model in transformers of the fake engine's size, with random weights of this spread."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        intermediate_size=48,
        num_attention_heads=4,
        vocab_size=260,
        initializer_range=spread,
    )
    return LlamaForCausalLM(config).eval()


@cache
def shipped_harm() -> frozenset[str]:
    """The words of every conversation of ours that a gate is to open for."""
    examples = GateExamples.draw(Corpus.shipped().items, 0).all
    return frozenset(
        "\n".join(turn.content for turn in example.conversation)
        for example in examples
        if example.label.harmful
    )


@cache
def drawn(seed: str, *shape: int) -> Tensor:
    """Noise that ``seed`` decides."""
    number = int(hashlib.sha256(seed.encode()).hexdigest()[:12], 16)
    return torch.randn(*shape, generator=torch.Generator().manual_seed(number))


def content(messages: Messages) -> str:
    """All words of a conversation, those in media included."""
    found = []
    for message in messages:
        parts: Any = message["content"]
        listed: list[dict[str, Any]] = [{"text": parts}] if isinstance(parts, str) else parts
        for part in listed:
            if "text" in part:
                found.append(part["text"])
            elif "image_url" in part:
                data = part["image_url"]["url"].split(",", 1)[1]
                found.append(base64.b64decode(data).decode(errors="replace"))
            else:
                found.append(base64.b64decode(part["input_audio"]["data"]).decode(errors="replace"))
    return "\n".join(found)


def prompt_ids(messages: Messages) -> list[int]:
    """The prompt of a conversation."""
    turns = (f"<turn>{one['role']}\n{content([one])}<end>" for one in messages)
    return FakeTokenizer()("".join(turns) + "<turn>assistant\n")["input_ids"]


@dataclass
class FakeModel:
    """``deaf`` media say nothing; ``refuses`` harmful text; steering is ``wrong`` by this factor.

    ``before`` is called with the name of every method that is asked, ``asked`` counts them,
    and under ``questions`` the conversations whose likeliest tokens are asked for.
    """

    deaf: tuple[str, ...] = ()
    refuses: bool = True
    wrong: float = 1.0
    before: Callable[[str], None] = lambda _: None
    lost: str | None = None
    facts: EngineFacts = FACTS
    batch: int = 16
    asked: dict[str, int] = field(default_factory=dict)
    loaded: SteeringBundle | None = None

    def rows(self, conversations: Sequence[Messages], steered: Steered | None = None) -> Tensor:
        self._note("rows")
        if not conversations:
            return torch.empty(0, LAYERS, HIDDEN)
        return torch.stack([self._rows(one, steered) for one in conversations])

    @property
    def tokenizer(self) -> Any:
        return FakeTokenizer()

    def prompt_rows(
        self, conversations: Sequence[Messages], layers: Sequence[int]
    ) -> Iterator[PromptRows]:
        for one in conversations:
            self._note("prompt_rows")
            yield self._prompt(one, layers)

    def answers(
        self,
        conversations: Sequence[Messages],
        tokens: int,
        steered: Steered | None = None,
        *,
        logprobs: bool = False,
    ) -> list[EngineAnswer]:
        self._note("answers")
        if logprobs:
            self.asked["questions"] = self.asked.get("questions", 0) + len(conversations)
        return [self._answer(one, tokens, steered, logprobs) for one in conversations]

    def states(self, conversations: Sequence[Messages], tokens: int) -> Tensor:
        self._note("states")
        last = [self._rows(one, None)[-1] for one in conversations]
        return torch.stack(last)[:, None].expand(-1, tokens, -1)

    def output_logits(self, states: Tensor) -> Tensor:
        return 6.0 * states @ drawn("output", HIDDEN, VOCABULARY)

    def load(self, bundle: SteeringBundle) -> None:
        self._note("load")
        bundle.check_model(HIDDEN, LAYERS)
        self.loaded = bundle

    def _harm(self, words: str) -> bool:
        if self.lost is not None and self.lost in words:
            raise SteeringError("this one is not there")
        medium = next((kind for kind in self.deaf if f"<{kind}>" in words), None)
        return medium is None and (BAD in words or words in shipped_harm())

    def _prompt(self, messages: Messages, layers: Sequence[int]) -> PromptRows:
        """One byte a token; harm is in the last byte of the last message."""
        words = content(messages)
        ids = prompt_ids(messages)
        # Too large to be remembered.
        rows = 0.3 * drawn.__wrapped__(words, max(layers) + 1, len(ids), HIDDEN)
        rows += 0.5 * drawn("everything", HIDDEN)
        spoken = len(ids) - len("assistant\n") - 3
        rows[:, spoken] += 5.0 * self._harm(words) * drawn("harm", HIDDEN) / HIDDEN**0.5
        return PromptRows(tuple(ids), {at: rows[at].bfloat16() for at in layers})

    def _score(self, messages: Messages, gate: PromptGate) -> float:
        prompt = self._prompt(messages, gate.layers)
        return gate.score(prompt.layers, gate.count_from(prompt.ids)).score

    def _rows(self, messages: Messages, steered: Steered | None) -> Tensor:
        words = content(messages)
        harm = self._harm(words)
        rows = 0.3 * drawn(words, LAYERS, HIDDEN) + 0.5 * drawn("everything", HIDDEN)
        for depth in range(LAYERS):
            rows[depth] += (2.0 + depth) * 0.4 * (harm - 1.1) * drawn("harm", HIDDEN) / HIDDEN**0.5
        if steered is None:
            return rows
        assert self.loaded is not None and steered.bundle.digest == self.loaded.digest
        gate = steered.bundle.gate
        opening = (
            1.0 if gate is None else gate.opening(self._score(messages, gate), steered.spec.media)
        )
        for at, layer in sorted(steered.bundle.layers.items()):
            coefficient = opening * layer.coefficient(rows[at], steered.spec.media)
            limit = steered.spec.max_dose * float(rows[at].norm())
            moved = coefficient.clamp(-limit, limit) * steered.spec.applied_strength
            rows[at:] += self.wrong * moved * layer.direction
        return rows

    def _answer(
        self, messages: Messages, tokens: int, steered: Steered | None, logprobs: bool
    ) -> EngineAnswer:
        words = content(messages)
        refused = self.refuses and BAD in words and "<" not in words
        if steered is not None:
            push = self._rows(messages, steered)[-1] - self._rows(messages, None)[-1]
            along = float(push @ drawn("harm", HIDDEN)) / HIDDEN**0.5
            refused |= along > 0.1 or steered.spec.applied_blend > 0.5
        logits = self.output_logits(self._rows(messages, steered)[-1])
        if steered is not None and steered.bundle.prototypes is not None:
            towards = self.output_logits(steered.bundle.prototypes.states[0])
            share = steered.spec.applied_blend * self.wrong
            logits = (1.0 - share) * logits + share * towards
        top = logits.log_softmax(-1).topk(20)
        step = dict(zip(top.indices.tolist(), top.values.tolist(), strict=True))
        gate = None if steered is None else steered.bundle.gate
        return EngineAnswer(
            tuple(prompt_ids(messages)),
            REFUSAL if refused else "Sure, here is how it goes.",
            (step,) * tokens if logprobs else (),
            None if gate is None else self._score(messages, gate),
        )

    def _note(self, method: str) -> None:
        self.asked[method] = self.asked.get(method, 0) + 1
        self.before(method)
