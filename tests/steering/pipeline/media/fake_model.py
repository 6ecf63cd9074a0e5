"""A served model of a few lines, which reads words in text and in media and can be steered.

Rows are noise of the request plus a shift for harmful words. A steered layer moves all later rows,
and logits are a fixed matrix over the last one, as in a model.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor

from refusal_steering.bundle import ModelIdentity, SteeringBundle
from refusal_steering.engine import EngineAnswer, EngineFacts, Messages, Steered
from refusal_steering.errors import SteeringError

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


@dataclass
class FakeModel:
    """``deaf`` media say nothing; ``refuses`` harmful text; steering is ``wrong`` by this factor.

    ``before`` is called with the name of every method that is asked, ``asked`` counts them.
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

    def answers(
        self,
        conversations: Sequence[Messages],
        tokens: int,
        steered: Steered | None = None,
        *,
        logprobs: bool = False,
    ) -> list[EngineAnswer]:
        self._note("answers")
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

    def _rows(self, messages: Messages, steered: Steered | None) -> Tensor:
        words = content(messages)
        if self.lost is not None and self.lost in words:
            raise SteeringError("this one is not there")
        medium = next((kind for kind in self.deaf if f"<{kind}>" in words), None)
        harm = BAD in words and medium is None
        rows = 0.3 * drawn(words, LAYERS, HIDDEN) + 0.5 * drawn("everything", HIDDEN)
        for depth in range(LAYERS):
            rows[depth] += (2.0 + depth) * 0.4 * (harm - 1.1) * drawn("harm", HIDDEN) / HIDDEN**0.5
        if steered is None:
            return rows
        assert self.loaded is not None and steered.bundle.digest == self.loaded.digest
        for at, layer in sorted(steered.bundle.layers.items()):
            coefficient = layer.coefficient(rows[at], steered.spec.media)
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
        return EngineAnswer(
            tuple(words.encode()[:50]),
            REFUSAL if refused else "Sure, here is how it goes.",
            (step,) * tokens if logprobs else (),
        )

    def _note(self, method: str) -> None:
        self.asked[method] = self.asked.get(method, 0) + 1
        self.before(method)
