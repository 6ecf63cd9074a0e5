"""The right answer of a public set's row, and how its question is put."""

from __future__ import annotations

import json
from typing import Any

from refusal_steering.errors import EvaluationError
from refusal_steering.evaluation.expected import (
    LETTERS,
    Choice,
    Expected,
    ModelAnswer,
    ShortAnswer,
)
from refusal_steering.evaluation.suites.public.public_set import AnswerRule, PublicSet
from refusal_steering.evaluation.suites.rows import Row, value_of

_CHOOSE = "Choose the right answer and begin your reply with its letter."
_SHORT = "Answer with one word or a short phrase."


def expected_of(public: PublicSet, row: Row, where: str) -> Expected | None:
    """What answers the row's question; ``None`` where the set has no right answers.

    Raises :class:`EvaluationError` for an answer that is none of the choices.
    """
    rule: AnswerRule = public.answer
    if not rule:
        return None
    answer = str(value_of(row, "answer", where)).strip()
    if rule == "model":
        return ModelAnswer(answer)
    if rule == "short":
        return ShortAnswer((answer,))
    if rule == "yes-no":
        if answer.lower() not in ("yes", "no"):
            raise EvaluationError(f"{where}: answer {answer!r} is neither yes nor no")
        return ShortAnswer((answer.lower(),), pair=str(value_of(row, "question_id", where)))
    choices = _choices(public, row, where)
    return Choice(_letter(rule, answer, choices, where), choices)


def question_of(public: PublicSet, question: str, row: Row, where: str) -> str:
    """The question with its context, its choices and how to answer it."""
    if public.context and row.get(public.context):
        question = f"{row[public.context]}\n{question}"
    if public.answer == "short":
        return f"{question}\n{_SHORT}"
    if not public.answer.startswith("choice"):
        return question
    lettered = zip(LETTERS, _choices(public, row, where), strict=False)
    return "\n".join((question, *(f"{letter}. {text}" for letter, text in lettered), _CHOOSE))


def _choices(public: PublicSet, row: Row, where: str) -> tuple[str, ...]:
    value: Any = value_of(row, public.choices, where)
    try:
        choices = json.loads(value) if isinstance(value, str) else list(value)
    except (ValueError, TypeError) as error:
        raise EvaluationError(f"{where}: choices are not a list") from error
    if not 2 <= len(choices) <= len(LETTERS):
        raise EvaluationError(f"{where}: {len(choices)} choices; expected 2 to {len(LETTERS)}")
    return tuple(str(choice) for choice in choices)


def _letter(rule: AnswerRule, answer: str, choices: tuple[str, ...], where: str) -> str:
    letters = LETTERS[: len(choices)]
    if rule == "choice-text":
        right = [at for at, text in enumerate(choices) if text.strip() == answer]
        if len(right) == 1:
            return letters[right[0]]
        raise EvaluationError(f"{where}: answer {answer!r} is {len(right)} of the choices")
    if answer.isdigit() and int(answer) < len(letters):
        return letters[int(answer)]
    if len(answer) == 1 and answer in letters:
        return answer
    raise EvaluationError(f"{where}: answer {answer!r} is none of {letters}")
