"""What a right answer to a question is, where there is one."""

from __future__ import annotations

from dataclasses import dataclass

LETTERS = "ABCDEFGHIJ"


@dataclass(frozen=True, slots=True)
class Choice:
    """A multiple-choice question: the right ``letter`` and the ``texts`` of all its choices."""

    letter: str
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ShortAnswer:
    """A question whose answer is a few words, all of which are right in one of ``accepted``.

    Questions with the same ``pair`` belong together: MME counts a picture as understood if both
    of its questions are answered rightly.
    """

    accepted: tuple[str, ...]
    pair: str = ""


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """An answer in free words, which a judge compares with ``text``."""

    text: str


Expected = Choice | ShortAnswer | ModelAnswer
