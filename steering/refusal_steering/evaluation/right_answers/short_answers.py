"""Whether a reply is the right short answer: the whole reply counts, not a word in it."""

from __future__ import annotations

import re

from refusal_steering.evaluation.expected import ShortAnswer
from refusal_steering.evaluation.right_answers.choices import plain

_YES_NO = frozenset({"yes", "no"})
_LEAD = re.compile(r"^(?:the (?:right |correct )?answer is|it is|it s|this is|they are)\s+")
_ARTICLE = re.compile(r"^(?:a|an|the)\s+")


def said(text: str, question: ShortAnswer) -> str | None:
    """The short answer that a reply gives, in plain words; ``None`` for one that cannot be read.

    Of yes and no, the word that begins the reply counts, and a reply with both is neither.
    """
    if set(question.accepted) <= _YES_NO:
        return _yes_or_no(text)
    return _core(text.strip().split("\n")[0]) or None


def is_right(text: str, question: ShortAnswer) -> bool:
    """Whether the reply gives one of the accepted answers and nothing else."""
    answer = said(text, question)
    return answer is not None and answer in {_core(right) for right in question.accepted}


def _yes_or_no(text: str) -> str | None:
    words = plain(text).split()
    lead = _LEAD.sub("", " ".join(words)).split()
    if not lead or lead[0] not in _YES_NO or len(_YES_NO & set(words)) != 1:
        return None
    return lead[0]


def _core(text: str) -> str:
    return _ARTICLE.sub("", _LEAD.sub("", plain(text)))
