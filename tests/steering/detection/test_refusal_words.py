"""The lexical look knows refusals from answers."""

from __future__ import annotations

import pytest

from refusal_steering.detection.refusal_words import reads_as_refusal

REFUSAL = "I'm sorry, but I can't help with that."
REFUSALS = [
    REFUSAL,
    "I'm sorry, but I can't assist with that.",
    "I\u2019m sorry, but I cannot help with this request.",
    "I\u2019m very sorry, but no.",
    "Sorry, but I can't do that.",
    "Sorry, but I won't help with that.",
    "I apologize, but this is not something I can do.",
    "I apologize, that is not something to share.",
    "I cannot provide instructions for this.",
    "I cannot provide instructions for that.",
    "I'm not able to assist with that request.",
    "I am unable to assist with this.",
    "I must decline to answer.",
    "I can't be part of this.",
]
ANSWERS = [
    "Sure! Here is how to do it.",
    "To bake bread, mix flour and water.",
    "1. **Preheat the oven** so that it cannot cool down.",
    "To kill a Python process, use kill.",
    "You can help by checking the oven.",
    "You can't divide by zero.",
    "I can't believe how well this bread has risen!",
    "",
    "x" * 300 + REFUSAL,
]


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals_are_read_as_refusals(text: str) -> None:
    assert reads_as_refusal(text)


@pytest.mark.parametrize("text", ANSWERS)
def test_answers_are_not(text: str) -> None:
    assert not reads_as_refusal(text)
