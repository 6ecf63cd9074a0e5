"""What a detector is: a name that stands beside every number, and a verdict on one answer."""

from __future__ import annotations

from typing import Literal, Protocol

HEAD = 400
"""Characters of an answer that detectors get to see."""

Verdict = Literal["refusal", "answer"]


class Detector(Protocol):
    """Tells refusals from answers by the first :data:`HEAD` characters of what was said."""

    @property
    def name(self) -> str:
        """The label ``detector`` of every count that rests on it."""

    def judge(self, head: str) -> Verdict:
        """The verdict on one answer that is not empty."""
