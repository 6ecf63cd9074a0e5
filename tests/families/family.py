"""A model family: what its tiny checkpoint is made of."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.engine.families import FOUND, TEXT
from tests.models.tiny_tokenizer import Vocabulary

Medium = Literal["image", "audio", "video"]
CONTEXT = 8192
# Layers of a family of sliding windows; a gate needs one that looks at every token.
SLIDING = ["sliding_attention", "sliding_attention", "full_attention"]
END, PAD, START = "<|im_end|>", "<|endoftext|>", "<|im_start|>"


@dataclass(frozen=True, eq=False)
class TinyFamily:
    """A family that vLLM knows under ``architecture``.

    ``config`` and ``model`` are classes of transformers, ``settings`` makes the configuration's
    settings from the vocabulary. ``processor`` makes transformers' processor from a tokenizer and a
    chat template; a family of text has none. ``placeholders`` are what the template writes for a
    medium, ``special`` the tokens in it and ``named`` those that the processor looks up by a name;
    ``words`` are further tokens that vLLM looks up.
    ``published`` renames what transformers writes: beginnings of weights' names that are not those
    of the family's published checkpoints. ``whole`` is the configuration class of a model of which
    only the thinker is made. ``engine`` are further settings of the engine, ``note`` is for the
    matrix.
    """

    name: str
    architecture: str
    config: str
    model: str
    settings: Callable[[Vocabulary], Mapping[str, Any]]
    processor: Callable[[Any, str], Any] | None = None
    placeholders: Mapping[Medium, str] = field(default_factory=dict)
    special: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    named: Mapping[str, str] = field(default_factory=dict)
    published: Mapping[str, str] = field(default_factory=dict)
    whole: str = ""
    engine: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def slug(self) -> str:
        """The name as a folder's."""
        return re.sub("[^a-z0-9]+", "-", self.name.lower()).strip("-")

    @property
    def media(self) -> tuple[Medium, ...]:
        """What its requests may bring."""
        return tuple(self.placeholders)


def known(architecture: str) -> dict[str, Any]:
    """The settings with which the layers of ``architecture`` are found, to be changed freely."""
    one = next(family for family in FOUND if family.architecture == architecture)
    return copy.deepcopy(one.settings)


def text_settings(vocabulary: Vocabulary, **more: Any) -> dict[str, Any]:
    """Settings of a tiny language model with the rows and tokens of ``vocabulary``."""
    ids = vocabulary.special
    return {
        **TEXT,
        "vocab_size": vocabulary.rows,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": None,
        "eos_token_id": ids[END],
        "pad_token_id": ids[PAD],
        "tie_word_embeddings": False,
        **more,
    }
