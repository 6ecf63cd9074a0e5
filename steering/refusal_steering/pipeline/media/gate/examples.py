"""What a gate is taught: texts of the contrast set in many families, and the build's requests.

The texts teach wordings, the requests teach the media. A request's family is its group.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from refusal_steering.engine import Messages
from refusal_steering.pipeline.media.requests import MediaRequest, Requests
from refusal_steering.prompts.corpus import Corpus
from refusal_steering.prompts.families.conversation import Conversation
from refusal_steering.prompts.gate_examples import GateExamples
from refusal_steering.prompts.gate_labels import GateLabel, GateLabels

TEXTS = "text families"
"""The group of the texts; requests have groups of their own."""


@dataclass(frozen=True, slots=True)
class MediaExample:
    """One conversation to read, and the group whose harmless ones keep the budget together."""

    label: GateLabel
    group: str
    told: Conversation | MediaRequest

    @property
    def id(self) -> str:
        """What the request is called by whoever wrote it."""
        return self.told.id if isinstance(self.told, MediaRequest) else self.label.item_id

    def messages(self, *, systems: bool) -> Messages:
        """In OpenAI's form, files read now; without ``systems`` no system prompt comes first."""
        if isinstance(self.told, MediaRequest):
            return self.told.messages()
        return [
            {"role": turn.role, "content": turn.content}
            for turn in self.told
            if systems or turn.role != "system"
        ]


@dataclass(frozen=True, slots=True)
class MediaExamples:
    """Examples in order, texts first; ``sha256`` names them."""

    all: tuple[MediaExample, ...]
    sha256: str

    @classmethod
    def of(
        cls, texts: GateExamples, requests: Requests, noise: Collection[str] = ()
    ) -> MediaExamples:
        """``texts`` and those of ``requests`` that train or tune.

        Groups of ``noise`` teach restraint alone: their harmful requests train nothing.
        """
        found = [MediaExample(one.label, TEXTS, one.conversation) for one in texts.all]
        found += [
            MediaExample(_label(one), one.group, one)
            for one in requests.part("train", "tune").all
            if not (one.group in noise and one.harmful and one.split == "train")
        ]
        named = hashlib.sha256(f"{texts.sha256}/{requests.sha256}/{sorted(noise)}".encode())
        return cls(tuple(found), named.hexdigest())

    @property
    def labels(self) -> GateLabels:
        """What is known of the examples, in order."""
        return GateLabels(tuple(one.label for one in self.all))

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups in the order of the examples."""
        return tuple(dict.fromkeys(one.group for one in self.all))

    def of_group(self, group: str) -> Tensor:
        """Mask [N] of the examples of one group."""
        return torch.tensor([one.group == group for one in self.all])


@cache
def gate_texts(seed: int, families: int, share: float) -> GateExamples:
    """This share of the conversations that a gate of text is taught, in their order."""
    drawn = GateExamples.draw(Corpus.shipped().items, seed, families)
    count = round(share * len(drawn.all))
    kept = sorted(random.Random(seed).sample(range(len(drawn.all)), count))
    return GateExamples(tuple(drawn.all[place] for place in kept))


def _label(one: MediaRequest) -> GateLabel:
    # A user's harmful and harmless request may be called the same.
    name = f"{one.id} {'harmful' if one.harmful else 'harmless'}"
    return GateLabel(name, one.group, one.harmful, one.split == "tune", False)
