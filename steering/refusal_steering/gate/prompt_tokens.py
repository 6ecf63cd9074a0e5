"""The tokens of a prompt, and which of them stand for a picture, a piece of audio or a video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

TEXT = "text"


@dataclass(frozen=True, slots=True)
class MediaLayout:
    """How the tokens of one medium lie in space and time, as far as its processor tells.

    ``grid`` is frames, rows and columns, token after token in this order; a picture has one frame.
    ``seconds`` is how long all of its tokens last.
    """

    grid: tuple[int, int, int] | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class MediaTokens:
    """The ``count`` tokens in a row from position ``first`` on that stand for one medium."""

    modality: str
    first: int
    count: int
    layout: MediaLayout = MediaLayout()

    def __contains__(self, position: int) -> bool:
        return self.first <= position < self.first + self.count


@dataclass(frozen=True, slots=True)
class PromptTokens:
    """A prompt as the engine computes it; ``media`` are in the order of their positions."""

    ids: Sequence[int]
    media: tuple[MediaTokens, ...] = ()

    def medium_at(self, position: int) -> MediaTokens | None:
        """The medium that the token at ``position`` stands for; ``None`` for text."""
        return next((medium for medium in self.media if position in medium), None)

    def modality_at(self, position: int) -> str:
        """``text``, ``image``, ``audio`` or ``video``."""
        medium = self.medium_at(position)
        return TEXT if medium is None else medium.modality
