"""What became of a request, by what its choices say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from refusal_server.detection.answer_text import Said
from refusal_steering.detection.detector import Detector

AnswerOutcome = Literal["refusal", "answer", "empty"]


def outcome_of(said: Sequence[Said], detector: Detector) -> AnswerOutcome:
    """``refusal`` if every choice that says anything refuses, ``empty`` if none says anything."""
    speaking = [choice for choice in said if choice.anything]
    if not speaking:
        return "empty"
    refuses = all(not c.calls and detector.judge(c.head) == "refusal" for c in speaking)
    return "refusal" if refuses else "answer"
