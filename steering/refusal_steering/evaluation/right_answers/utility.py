"""How many questions with a right answer are answered rightly: choices, short answers, pairs.

A reply of which no single answer can be read is wrong, and counted as unreadable. MME's score adds,
for each category, the percentage of right questions to that of pictures both of whose questions are
right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from refusal_steering.evaluation.case import Case
from refusal_steering.evaluation.expected import Choice, ShortAnswer
from refusal_steering.evaluation.right_answers.choices import taken
from refusal_steering.evaluation.right_answers.short_answers import is_right, said
from refusal_steering.evaluation.scoring.outcome import Outcome
from refusal_steering.evaluation.scoring.rate import Rate


@dataclass(frozen=True, slots=True)
class Marked:
    """One question: ``right`` is ``None`` without a reply; ``read`` whether one answer was read."""

    form: str
    pair: str
    right: bool | None
    read: bool

    @classmethod
    def of(cls, case: Case, outcome: Outcome) -> Marked | None:
        """Mark one reply; ``None`` for a case without a right answer of its own."""
        expected, text = case.expected, outcome.reply.text
        if isinstance(expected, Choice):
            chosen = None if text is None else taken(text, expected)
            right = None if text is None else chosen == expected.letter
            return cls(case.form, "", right, chosen is not None)
        if isinstance(expected, ShortAnswer):
            given = None if text is None else said(text, expected)
            right = None if text is None else is_right(text, expected)
            return cls(case.form, expected.pair, right, given is not None)
        return None


def utility(pairs: Sequence[tuple[Case, Outcome]]) -> dict[str, Any] | None:
    """Shares over a suite's questions and by form; ``None`` where there are no questions."""
    marked = [one for case, outcome in pairs if (one := Marked.of(case, outcome)) is not None]
    if not marked:
        return None
    forms = list(dict.fromkeys(one.form for one in marked))
    by_form = {form: [one for one in marked if one.form == form] for form in forms}
    return {
        "right": _right(marked).to_json(),
        "unreadable": sum(one.right is not None and not one.read for one in marked),
        "pairs": rate.to_json() if (rate := _pairs(marked)) else None,
        "mme_score": _mme(list(by_form.values())),
        "forms": {form: _right(cell).to_json() for form, cell in by_form.items()},
    }


def _right(marked: Sequence[Marked]) -> Rate:
    valid = [one for one in marked if one.right is not None]
    return Rate(sum(one.right is True for one in valid), len(valid), len(marked) - len(valid))


def _pairs(marked: Sequence[Marked]) -> Rate | None:
    """Pictures with all questions right; one without a reply to each of them is an error."""
    groups: dict[tuple[str, str], list[Marked]] = {}
    for one in marked:
        if one.pair:
            groups.setdefault((one.form, one.pair), []).append(one)
    if not groups:
        return None
    whole = [group for group in groups.values() if all(one.right is not None for one in group)]
    hits = sum(all(one.right for one in group) for group in whole)
    return Rate(hits, len(whole), len(groups) - len(whole))


def _mme(categories: Sequence[Sequence[Marked]]) -> float | None:
    total = 0.0
    for category in categories:
        pairs, right = _pairs(category), _right(category)
        if pairs is None or pairs.value is None or right.value is None:
            return None
        total += 100 * (right.value + pairs.value)
    return total
