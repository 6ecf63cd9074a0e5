"""The detector that costs microseconds and looks at every answer."""

from __future__ import annotations

from refusal_steering.detection.detector import Verdict
from refusal_steering.detection.refusal_words import reads_as_refusal


class LexicalDetector:
    """Looks for the words of a plain refusal in the first 200 characters: English, not exact."""

    name = "lexical"

    def judge(self, head: str) -> Verdict:
        """``refusal`` if the beginning of ``head`` reads as one."""
        return "refusal" if reads_as_refusal(head) else "answer"
