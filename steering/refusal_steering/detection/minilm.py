"""The detector that looks at meaning: a sentence encoder, cues, and a trained head."""

from __future__ import annotations

from refusal_steering.detection.cues import cues
from refusal_steering.detection.detector import MINILM
from refusal_steering.detection.encoder import Encoder, MiniLmEncoder
from refusal_steering.detection.head import Head, shipped_head


class MiniLmDetector:
    """About 23 ms of one core for each answer: never in a response's path."""

    name = MINILM

    def __init__(self, encoder: Encoder | None = None, head: Head | None = None) -> None:
        self._encoder = encoder or MiniLmEncoder()
        self._head = head or shipped_head()
        if self._head.encoder != self._encoder.name:
            raise ValueError(
                f"the head fits {self._head.encoder!r}, the encoder is {self._encoder.name!r}"
            )

    def probability(self, head: str) -> float:
        """How probable it is that an answer with this beginning refuses."""
        vector = self._encoder.encode([head])[0].tolist()
        return self._head.probability(vector, cues(head))

    def refuses(self, head: str) -> bool:
        """Whether the probability is above the trained head's threshold."""
        return self.probability(head) > self._head.threshold
