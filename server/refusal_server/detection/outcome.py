"""What became of a request, by what its choices say."""

from __future__ import annotations

from collections.abc import Sequence

from refusal_server.detection.answer_text import Said
from refusal_steering.detection.detector import Detector, Verdict, verdict_on

# By how much of an answer the caller got.
_ORDER: tuple[Verdict, ...] = ("answer", "refusal", "broken", "empty")


def outcome_of(said: Sequence[Said], detector: Detector) -> Verdict:
    """The first of ``answer``, ``refusal``, ``broken`` and ``empty`` that some choice is.

    So a request is a refusal if no choice answers and one refuses. A tool call is an answer.
    """
    found = {"answer" if choice.calls else verdict_on(choice.head, detector) for choice in said}
    return next((verdict for verdict in _ORDER if verdict in found), "empty")
