"""Which choice of a multiple-choice question a reply takes: by letter, or by a choice's words.

Letter and words must agree. A reply that takes two choices, or none, takes none.
"""

from __future__ import annotations

import re

from refusal_steering.evaluation.expected import LETTERS, Choice

_LEAD = (
    r"(?:(?:so|thus|therefore|hence)\W+)?(?:(?:the|my)\s+)?(?:(?:right|correct|best|final)\s+)?"
    r"(?:answer|choice|option)(?:\s+is|\s*:)?(?:\s+(?:choice|option))?\W*"
)
# A letter by itself, "B", "(B)", "B.", at the start of a reply or after words that lead to it.
_FIRST = re.compile(rf"\W*(?:{_LEAD})?([A-J])(?=\W*$|\s*[\n.,:;)*\]])", re.I)
_MORE = re.compile(rf"\W*(?:{_LEAD})?([A-J])\W*(?:,|/|&|and|or)\s*\W?([A-J])\b(?!\w)", re.I)
_LATER = re.compile(rf"\b{_LEAD}([A-J])\b(?!')", re.I)


def taken(text: str, question: Choice) -> str | None:
    """The letter of the choice that ``text`` takes; ``None`` where it is none or not one."""
    letters = LETTERS[: len(question.texts)]
    named = {letter for letter in _named(text) if letter in letters}
    worded = {letters[at] for at in _worded(text, question.texts)}
    if len(named) > 1 or (not named and len(worded) != 1):
        return None
    if not named:
        return worded.pop()
    letter = named.pop()
    # Words of other choices may be discussed behind the letter; a reply of one choice may not
    # carry another's letter.
    return letter if not worded or letter in worded else None


def _named(text: str) -> set[str]:
    starts = (_FIRST.match(text), _MORE.match(text))
    found = [match for match in (*starts, *_LATER.finditer(text)) if match]
    return {letter for match in found for letter in match.groups() if letter.isupper()}


def _worded(text: str, choices: tuple[str, ...]) -> set[int]:
    """Places of the choices whose words stand in the text, but for those inside a longer one."""
    said = f" {plain(text)} "
    inside = {at: plain(choice) for at, choice in enumerate(choices)}
    found = {at for at, words in inside.items() if words and f" {words} " in said}
    return {
        at
        for at in found
        if not any(
            other != at
            and inside[other] != inside[at]
            and f" {inside[at]} " in f" {inside[other]} "
            for other in found
        )
    }


def plain(text: str) -> str:
    """Lower case, without punctuation, blanks once."""
    return " ".join(re.findall(r"\w+", text.lower()))
