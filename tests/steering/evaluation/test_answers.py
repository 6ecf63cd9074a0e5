"""Right answers: choices by letter or words, short answers, pairs; what is unclear is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refusal_steering.evaluation.case import Case, user
from refusal_steering.evaluation.endpoint import Reply
from refusal_steering.evaluation.expected import Choice, Expected, ShortAnswer
from refusal_steering.evaluation.right_answers.choices import taken
from refusal_steering.evaluation.right_answers.short_answers import is_right, said
from refusal_steering.evaluation.right_answers.utility import utility
from refusal_steering.evaluation.scoring.coherence import Perplexity
from refusal_steering.evaluation.scoring.outcome import Outcome
from refusal_steering.evaluation.suites.draft import Draft, pick
from tests.steering.evaluation.texts import REFUSAL

CITIES = Choice("C", ("Rome", "Oslo", "Paris", "New Paris"))


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("C. Paris is the capital.", "C"),
        ("(D) because", "D"),
        ("The correct answer is A.", "A"),
        ("Answer: B", "B"),
        ("A\n\nThe reason", "A"),
        ("**C**", "C"),
        ("So the answer is option B.", "B"),
        ("Looking at the tower, my answer is C", "C"),
        ("It is Paris.", "C"),
        ("It is New Paris, of course", "D"),
        ("paris", "C"),
        ("C. Paris, and not Oslo.", "C"),
        # Not one choice: none, several, or a letter and words that differ.
        ("Because it is so, B", None),
        (REFUSAL, None),
        ("A good answer needs more words.", None),
        ("", None),
        ("Rome or Oslo", None),
        ("A or B", None),
        ("A, B", None),
        ("A. The right answer is B.", None),
        ("B. Paris", None),
        ("E", None),
        ("a", None),
    ],
)
def test_the_choice_that_a_reply_takes(text: str, letter: str | None) -> None:
    assert taken(text, CITIES) == letter


@given(st.text())
def test_a_reply_takes_one_of_the_choices_or_none(text: str) -> None:
    assert taken(text, CITIES) in (*"ABCD", None)
    assert is_right(text, ShortAnswer(("yes",))) + is_right(text, ShortAnswer(("no",))) <= 1


def test_every_choice_is_taken_by_its_letter_and_by_its_words() -> None:
    for letter, words in zip("ABCD", CITIES.texts, strict=True):
        for text in (letter, f"({letter})", f"{letter}. {words}", words, f"The answer is {words}."):
            assert taken(text, CITIES) == letter


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("Yes", True),
        ("yes, it does.", True),
        ("The answer is yes.", True),
        ("No", False),
        ("Yes and no", False),
        ("It may be, yes", False),
        (REFUSAL, False),
        ("", False),
    ],
)
def test_yes_or_no_is_the_word_that_begins_a_reply(text: str, right: bool) -> None:
    assert is_right(text, ShortAnswer(("yes",))) == right


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("dining table", True),
        ("A dining table.", True),
        ("The answer is the dining table", True),
        ("Dining table\nIt stands on the left.", True),
        ("table", False),
        ("dining table or desk", False),
        ("It is not a dining table", False),
        ("", False),
    ],
)
def test_a_short_answer_is_the_whole_reply(text: str, right: bool) -> None:
    assert is_right(text, ShortAnswer(("dining table",))) == right


def test_what_cannot_be_read_is_no_answer() -> None:
    assert said("Perhaps", ShortAnswer(("no",))) is None
    assert said("no", ShortAnswer(("no",))) == "no"


def pair(number: int, form: str, expected: Expected | None, text: str | None) -> Any:
    case = Case(str(number), "s", form, "harmless", user("x"), expected)
    reply = Reply(text) if text is not None else Reply.failed("gone")
    return case, Outcome("arm", "s", case.id, reply, None, Perplexity("off"))


def test_a_picture_counts_if_both_of_its_questions_are_right() -> None:
    def asked(form: str, picture: str, yes: str | None, no: str | None) -> list[Any]:
        return [
            pair(0, form, ShortAnswer(("yes",), picture), yes),
            pair(1, form, ShortAnswer(("no",), picture), no),
        ]

    rows = [
        *asked("count", "a", "yes", "no"),
        *asked("count", "b", "yes", "yes"),
        *asked("color", "a", "yes", "no"),
        *asked("color", "c", "maybe", "maybe"),
    ]
    found = utility(rows)
    assert found is not None
    assert (found["right"]["hits"], found["right"]["n"]) == (5, 8)
    assert (found["pairs"]["hits"], found["pairs"]["n"]) == (2, 4)
    assert found["unreadable"] == 2
    # 75 % of questions and 50 % of pictures; 50 % and 50 %.
    assert found["mme_score"] == pytest.approx(75 + 50 + 50 + 50)
    failed = utility([*rows, *asked("color", "d", "yes", None)])
    assert failed is not None and failed["pairs"]["errors"] == failed["right"]["errors"] == 1
    assert failed["pairs"]["hits"] == 2


def test_a_suite_without_questions_has_no_utility() -> None:
    assert utility([pair(0, "plain", None, "yes")]) is None
    choices = utility([pair(0, "plain", CITIES, text) for text in ("C", "Oslo", REFUSAL)])
    assert choices is not None and choices["pairs"] is None and choices["mme_score"] is None
    assert (choices["right"]["hits"], choices["unreadable"]) == (1, 1)


def test_a_limit_never_asks_half_of_a_pair() -> None:
    drafts = [
        Draft(f"{picture}/{at}", "color", "harmless", str, ShortAnswer(("yes",), f"{picture}"))
        for picture in range(4)
        for at in range(2)
    ]
    for limit in range(2, 8):
        asked = [draft.id.partition("/")[0] for draft in pick(drafts, limit)]
        assert len(asked) == limit - limit % 2 and len(set(asked)) == len(asked) // 2
    assert len(pick(drafts, 1)) == 1
