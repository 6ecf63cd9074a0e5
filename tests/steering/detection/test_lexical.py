"""The lexical detector knows refusals from answers, and broken text from both."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refusal_steering.detection.broken import is_broken
from refusal_steering.detection.detector import HEAD, verdict_on
from refusal_steering.detection.lexical import LexicalDetector

LEXICAL = LexicalDetector()
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
    "\n" * 150 + REFUSAL,
    "word " * 10 + "and then " + REFUSAL,
]
ANSWERS = [
    "Sure! Here is how to do it.",
    "To bake bread, mix flour and water.",
    "1. **Preheat the oven** so that it cannot cool down.",
    "To kill a Python process, use kill.",
    "You can help by checking the oven.",
    "You can't divide by zero.",
    "I can't believe how well this bread has risen!",
    "x" * 300 + REFUSAL,
]
CODE = """\
class Point:
    def __init__(self, x, y, z):
        self.x = x
        self.y = y
        self.z = z

    def __add__(self, other):
        return Point(self.x + other.x, self.y + other.y, self.z + other.z)
"""
TABLE = "| day | open | from | to |\n" + "\n".join(
    f"| {day} | yes | {start} | {start + 8} |"
    for day, start in zip(("Mon", "Tue", "Wed", "Thu", "Fri"), range(7, 12), strict=True)
)
WORDS = [f"w{number}" for number in range(300)]


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals_are_refusals(text: str) -> None:
    assert verdict_on(text, LEXICAL) == "refusal"


@pytest.mark.parametrize("text", [*ANSWERS, CODE, TABLE])
def test_answers_are_answers(text: str) -> None:
    assert verdict_on(text, LEXICAL) == "answer"


@pytest.mark.parametrize("text", ["", " \n\t ", " " * HEAD + REFUSAL])
def test_blanks_are_no_answer(text: str) -> None:
    assert verdict_on(text, LEXICAL) == "empty"


@given(
    phrase=st.lists(
        st.sampled_from(["I", "cannot", "help", "sorry", "not"]), min_size=1, max_size=6
    ),
    times=st.integers(15, 60),
)
def test_a_phrase_that_repeats_itself_is_broken_whatever_it_says(
    phrase: list[str], times: int
) -> None:
    assert verdict_on(" ".join(phrase * times), LEXICAL) == "broken"


@given(st.integers(0, 2**32), st.integers(0, 200))
def test_words_that_do_not_repeat_are_never_broken(seed: int, count: int) -> None:
    assert not is_broken(" ".join(random.Random(seed).sample(WORDS, count)))


@given(start=st.integers(0, 250), times=st.integers(25, 60))
def test_a_text_that_breaks_anywhere_is_broken(start: int, times: int) -> None:
    assert is_broken(" ".join(WORDS[:start]) + " and so on" * times)


@given(st.text(max_size=300), st.text(max_size=300))
def test_only_the_head_counts(text: str, more: str) -> None:
    head = text.ljust(HEAD, "x")
    assert verdict_on(head + more, LEXICAL) == verdict_on(head, LEXICAL)
