"""The model under calibration, and left-padded batches of prompts for it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from refusal_steering.bundle import ModelIdentity
from refusal_steering.calibration.chat import Chat
from refusal_steering.gate.whole_prompts import keeps_prompts


@dataclass(frozen=True, slots=True)
class Batch:
    """Prompts padded on the left; ``rows`` are their places in the caller's list.

    ``input_ids`` [B, T] leave out what all prompts begin with; ``attention_mask`` [B, S + T]
    covers it. ``prefix`` holds the cached keys and values of those S tokens for every row.
    """

    rows: list[int]
    input_ids: Tensor
    attention_mask: Tensor
    prefix: Any

    @property
    def positions(self) -> Tensor:
        """Position ids [B, T]: each prompt's own count of real tokens."""
        counted = (self.attention_mask.cumsum(-1) - 1).clamp(min=0)
        return counted[:, -self.input_ids.shape[1] :]

    def take_prefix(self) -> Any:
        """The prefix's cache for one forward pass, which will grow it."""
        return copy.deepcopy(self.prefix)


@dataclass(frozen=True, slots=True)
class CalibrationModel:
    """A causal language model and its tokenizer, ready for inference.

    ``template_arguments`` are given to the chat template with every prompt.
    """

    model: Any
    tokenizer: Any
    template_arguments: Mapping[str, Any] = field(default_factory=dict)

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

    @property
    def keeps_prompts(self) -> bool:
        """Whether a gate can read the model where it is served."""
        return keeps_prompts(self.model.config.get_text_config())

    def encode(self, prompt: str) -> list[int]:
        """Token ids of one user message under the chat template, up to the answer's start."""
        return Chat(self.tokenizer, self.template_arguments).encode(prompt)

    def batches(self, prompts: Sequence[str], size: int) -> Iterator[Batch]:
        """Batches of at most ``size`` prompts of like length."""
        yield from self.encoded_batches([self.encode(prompt) for prompt in prompts], size)

    def encoded_batches(self, encoded: Sequence[Sequence[int]], size: int) -> Iterator[Batch]:
        """Batches of at most ``size`` prompts of like length, given as token ids."""
        order = sorted(range(len(encoded)), key=lambda row: len(encoded[row]))
        # The system prompt and the template's opening are computed once.
        shared = _common_start(encoded) if self.shares_openings else []
        cache = self.prefix_cache(shared)
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            own = [list(encoded[row][len(shared) :]) for row in rows]
            yield _pad_left(rows, own, self.tokenizer.pad_token_id or 0, len(shared), cache)

    @property
    def shares_openings(self) -> bool:
        """Whether what prompts begin with may be computed once for all of them.

        Not where layers see a window of tokens: padding behind an opening would take places in it.
        """
        return not _slides(self.model.config.get_text_config())

    @torch.no_grad()
    def prefix_cache(self, ids: Sequence[int]) -> Any:
        """Cached keys and values of the tokens ``ids``, for one prompt; a copy grows, not this."""
        if not ids:
            return DynamicCache()
        return self.model(input_ids=torch.tensor([list(ids)]), use_cache=True).past_key_values


def _slides(config: Any) -> bool:
    """Whether any layer sees less than all tokens before its own."""
    kinds = getattr(config, "layer_types", None)
    if kinds:
        return any(kind != "full_attention" for kind in kinds)
    return bool(getattr(config, "sliding_window", None))


def _common_start(sequences: Sequence[Sequence[int]]) -> list[int]:
    """What all sequences begin with; two tokens of each stay its own, one before its last."""
    if not sequences:
        return []
    first, last = min(sequences, key=list), max(sequences, key=list)
    limit = max(0, min(map(len, sequences)) - 2)
    pairs = enumerate(zip(first[:limit], last[:limit], strict=False))
    return list(first[: next((place for place, (a, b) in pairs if a != b), limit)])


def _pad_left(
    rows: list[int], sequences: list[list[int]], pad: int, shared: int, cache: Any
) -> Batch:
    width = max(map(len, sequences))
    ids = [[pad] * (width - len(ids)) + ids for ids in sequences]
    mask = [[1] * shared + [0] * (width - len(ids)) + [1] * len(ids) for ids in sequences]
    prefix = copy.deepcopy(cache)
    if shared:
        prefix.batch_repeat_interleave(len(rows))
    return Batch(rows, torch.tensor(ids), torch.tensor(mask), prefix)
