"""What the tower should put out: the embedding of a word's token, or the pause between words."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from deploy.demo.training.speech import grammar, pause
from deploy.demo.training.speech.embedding import Embedding

BLANK = 0
# The logit of a target is minus its squared distance times this, in units of the embedding.
SHARPNESS = 40.0


class Targets:
    """The blank and every token of the vocabulary, as classes with vectors."""

    def __init__(self, embedding: Embedding) -> None:
        words = grammar.vocabulary()
        self.tokens = dict(zip(words, embedding.words(words), strict=True))
        ids = sorted({token for tokens in self.tokens.values() for token in tokens})
        self.number = {token: 1 + place for place, token in enumerate(ids)}
        self.vectors = torch.cat([pause.stored()[None], embedding.vectors(ids)])
        self._words = {tuple(self.classes([word])): word for word in words}

    def classes(self, words: Sequence[str]) -> list[int]:
        """The classes of a sentence's tokens."""
        return [self.number[token] for word in words for token in self.tokens[word]]

    def logits(self, vectors: Tensor) -> Tensor:
        """Logits [..., classes] of vectors [..., width]."""
        cross = vectors @ self.vectors.T
        norms = self.vectors.square().sum(1)
        return SHARPNESS * (2 * cross - norms - vectors.square().sum(-1, keepdim=True))

    def read(self, vectors: Tensor) -> list[str]:
        """The words in vectors [time, width]: nearest classes, repeats and blanks left out."""
        nearest = self.logits(vectors).argmax(-1)
        kept = torch.unique_consecutive(nearest).tolist()
        return self._joined([number for number in kept if number != BLANK])

    def places(self, vectors: Tensor, words: Sequence[str]) -> Tensor | None:
        """The last vector of each word in vectors [time, width]; ``None`` where others are read."""
        nearest = self.logits(vectors).argmax(-1)
        kept, lengths = torch.unique_consecutive(nearest, return_counts=True)
        spoken = kept != BLANK
        if kept[spoken].tolist() != self.classes(words):
            return None
        ends = (lengths.cumsum(0) - 1)[spoken]
        last = torch.tensor([len(self.tokens[word]) for word in words]).cumsum(0) - 1
        found: Tensor = ends[last]
        return found

    def _joined(self, classes: list[int]) -> list[str]:
        words, place = [], 0
        while place < len(classes):
            for length in (2, 1):
                word = self._words.get(tuple(classes[place : place + length]))
                if word is not None:
                    break
            words.append(word or "?")
            place += length if word else 1
        return words
