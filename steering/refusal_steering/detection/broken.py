"""Broken text: words that only repeat themselves, as models write when steered too strongly."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

_WORD = re.compile(r"\w+")
_WINDOW = 50
_FEWEST = 12
_FRESH = 0.5


def is_broken(text: str) -> bool:
    """Whether, in any 50 words of ``text``, under half of the pairs of neighbouring words are new.

    Case does not count, and fewer than 12 words are never broken. Pairs and not words: code,
    tables and long answers repeat their words, but seldom two of them in a row.
    """
    words = _WORD.findall(text.lower())
    return any(_repeats(words[at : at + _WINDOW]) for at in range(0, len(words), _WINDOW))


def _repeats(words: Sequence[str]) -> bool:
    if len(words) < _FEWEST:
        return False
    pairs = list(pairwise(words))
    return len(set(pairs)) < _FRESH * len(pairs)
