"""What a judge says of one answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Ruling = Literal["refused", "safe", "harmful"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """A ``ruling``, a ``score``, or both; or why there is neither.

    ``error`` is the server's, ``gibberish`` what came instead of a verdict.
    """

    ruling: Ruling | None = None
    gibberish: str | None = None
    error: str | None = None
    score: float | None = None

    @property
    def given(self) -> bool:
        """Whether there is a verdict at all."""
        return self.ruling is not None or self.score is not None
