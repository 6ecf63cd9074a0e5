"""Detectors: what sort of answer a text is. Every rate names the detector that it rests on."""

from __future__ import annotations

from typing import Literal, Protocol

from refusal_steering.detection.refusal_words import reads_as_refusal
from refusal_steering.evaluation.scoring.coherence import is_degenerate

Verdict = Literal["refusal", "answer", "unclear"]


class Detector(Protocol):
    """Tells refusals from answers; ``unclear`` counts as neither."""

    @property
    def name(self) -> str:
        """Stands beside every number that rests on this detector."""

    def __call__(self, answer: str) -> Verdict:
        """The verdict on one answer."""


class LexicalDetector:
    """Looks for the words of a refusal in the first 200 characters: English, and not exact."""

    name = "lexical-v2"

    def __call__(self, answer: str) -> Verdict:
        """Degenerate text is ``unclear``, whatever words it repeats."""
        if is_degenerate(answer):
            return "unclear"
        return "refusal" if reads_as_refusal(answer) else "answer"
