"""The engine that calibration asks: what serves the model, as the stages of a build see it.

:mod:`refusal_steering.vllm_plugin.offline` is the one implementation; the stages know this much of
it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from refusal_steering.bundle import ModelIdentity, SteeringBundle
from refusal_steering.spec import SteeringSpec

Messages = list[dict[str, Any]]
"""One conversation in OpenAI's form, media as data URLs."""
Asked = TypeVar("Asked")


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What is known of a model before its weights are read.

    ``model`` is the folder or the hub's name, ``identity`` what bundles say of it. ``takes`` says
    how many of each medium one request may bring, ``medium_tokens`` the most that one of them can
    take where the model's processor says so, ``context`` how many tokens fit, ``vocabulary`` how
    many there are. ``linear_logits`` says that logits can be blended, ``hears_videos`` that the
    model is given the sound of videos, so that each must have some, ``keeps_prompts`` that the
    key-value cache keeps every token of a prompt, without which no gate can read it. ``digest``
    names everything that decides a row: files of the model, arguments of the engine, and what is
    put around a conversation.
    """

    model: str
    identity: ModelIdentity
    takes: Mapping[str, int]
    context: int
    vocabulary: int
    linear_logits: bool
    digest: str
    hears_videos: bool = False
    keeps_prompts: bool = True
    medium_tokens: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Steered:
    """A bundle that the engine has loaded, and the terms that a request is steered under."""

    bundle: SteeringBundle
    spec: SteeringSpec


@dataclass(frozen=True, slots=True)
class EngineAnswer:
    """A greedy answer: ids of its prompt, its text, and log-probabilities of the first tokens.

    ``steps`` has the likeliest 20 token ids of each generated token, where they were asked for.
    ``score`` is what a bundle's gate read of the prompt, for an answer of one token.
    """

    prompt: tuple[int, ...]
    text: str
    steps: tuple[Mapping[int, float], ...] = ()
    score: float | None = None


@dataclass(frozen=True, slots=True)
class PromptRows:
    """A prompt as the engine computes it: ids [T], and rows [T, H] in bfloat16 behind layers."""

    ids: tuple[int, ...]
    layers: Mapping[int, Tensor]


class ServedModel(Protocol):
    """One offline engine, configured as the server is."""

    @property
    def facts(self) -> EngineFacts:
        """What was known before the engine started."""

    @property
    def batch(self) -> int:
        """How many conversations it is best given at a time."""

    def rows(self, conversations: Sequence[Messages], steered: Steered | None = None) -> Tensor:
        """Residual rows [N, L, H] in float32 behind every layer, at the last prompt token.

        Raises ``SteeringError`` with the name of a conversation that was not recorded.
        """

    @property
    def tokenizer(self) -> Any:
        """The model's tokenizer, of the kind that transformers has."""

    def prompt_rows(
        self, conversations: Sequence[Messages], layers: Sequence[int]
    ) -> Iterator[PromptRows]:
        """Unsteered rows of every prompt token, media included, conversation after conversation.

        A few conversations are held at a time. Raises ``SteeringError`` where one is not recorded
        whole.
        """

    def answers(
        self,
        conversations: Sequence[Messages],
        tokens: int,
        steered: Steered | None = None,
        *,
        logprobs: bool = False,
    ) -> list[EngineAnswer]:
        """Greedy answers of at most ``tokens`` tokens."""

    def states(self, conversations: Sequence[Messages], tokens: int) -> Tensor:
        """States [N, tokens, H] after the last norm, that each answer token was chosen from."""

    def output_logits(self, states: Tensor) -> Tensor:
        """Logits [N, V] that the model gives for states [N, H] after its last norm."""

    def load(self, bundle: SteeringBundle) -> None:
        """Make room for ``bundle`` alone; raises ``SteeringError`` where the engine refuses it."""


def in_batches(model: ServedModel, asked: Sequence[Asked], what: str) -> Iterator[Sequence[Asked]]:
    """What is ``asked``, as many at a time as the engine likes, with a bar that says ``what``."""
    bar = tqdm(total=len(asked), desc=what, unit="row", disable=None)
    with bar:
        for start in range(0, len(asked), model.batch):
            part = asked[start : start + model.batch]
            yield part
            bar.update(len(part))


def every_row(model: ServedModel, conversations: Sequence[Messages]) -> Tensor:
    """Residual rows [N, L, H] of all ``conversations``; N is at least 1."""
    return torch.cat([model.rows(part) for part in in_batches(model, conversations, "rows")])
