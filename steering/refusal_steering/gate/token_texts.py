"""The texts of a prompt's tokens, short enough to be told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

# A character of UTF-8 has at most four bytes, and a token at least one.
_PIECES = 4
_BROKEN = "\ufffd"
_SPACE = "\u2581"
_LONGEST = 80


class Tokenizer(Protocol):
    """What is used of the served model's tokenizer."""

    def decode(self, ids: list[int]) -> str:
        """The text of ``ids``."""

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        """The vocabulary's own names of ``ids``."""


class TokenTexts:
    """Decodes tokens apart from each other; without a tokenizer there are no texts."""

    def __init__(self, tokenizer: Tokenizer | None) -> None:
        self._tokenizer = tokenizer

    def one(self, token: int) -> str | None:
        """The text of a single token."""
        (text,) = self.each([[token]])
        return text

    def each(self, runs: Sequence[Sequence[int]]) -> list[str | None]:
        """The text of every run of tokens, at most 80 characters of it; ``None`` for an empty run.

        A character whose tokens lie in several runs stands in the last of them.
        """
        found: list[str | None] = []
        held: list[int] = []
        for run in runs:
            if self._tokenizer is None or not run:
                found.append(None)
                held = []
                continue
            text = self._decoded([*held, *run])
            if text.endswith(_BROKEN) and len(held) + 1 < _PIECES and len(run) == 1:
                held = [*held, *run]
                found.append("")
            else:
                held = []
                found.append(text)
        if held and found[-1] == "":
            found[-1] = self._decoded(held)
        return [text if text is None else _short(text) for text in found]

    def _decoded(self, ids: list[int]) -> str:
        assert self._tokenizer is not None
        text = self._tokenizer.decode(ids)
        # Tokenizers of SentencePiece drop the space that a text begins with.
        (name,) = self._tokenizer.convert_ids_to_tokens(ids[:1])
        spaced = name.startswith(_SPACE) and not text.startswith(" ")
        return f" {text}" if spaced else text


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
