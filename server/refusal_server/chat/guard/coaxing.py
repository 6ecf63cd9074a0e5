"""Turns around a request that talk the model out of refusing: the request without them.

A turn of the assistant that begins the answer may stand at the end, or before a user's turn that
says next to nothing; and a system prompt may forbid the model to refuse. Steering reads the end of
the prompt, so what they hide is judged without them.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

Messages = Sequence[dict[str, Any]]

_SYSTEM = ("system", "developer")
# What instructions against refusing speak of. Others that do, such as "refuse what is off topic",
# cost a draft and change nothing.
_FORBIDS = (
    *("refus", "declin", "restrict", "uncensor", "unfilter", "jailbreak", "disclaimer", "warning"),
    *("guideline", "policy", "policies", "moral", "ethic", "judg", "limit", "everything"),
    *("anything", "any question", "always answer", "always comply", "always obey", "always help"),
    *("verweiger", "ablehn", "einschränk", "rechaz", "rehús", "recus", "rifiut", "отказ"),
    *("огранич", "拒绝", "限制", "拒否", "制限", "거절", "거부", "رفض", "मना"),
)
# Characters of the longest prompt that is remembered.
_REMEMBERED = 8192
_FORBIDS_IN_ASCII = tuple(filter(str.isascii, _FORBIDS))
# Longer turns of a user ask for something of their own; "Continue." does not.
_BRIEF = 32


def coaxed(messages: Messages) -> list[dict[str, Any]] | None:
    """The conversation without turns that coax an answer; ``None`` where there are none."""
    kept = list(messages[: _request(messages)])
    if any(turn["role"] in _SYSTEM and _forbids(turn) for turn in kept):
        kept = [turn for turn in kept if turn["role"] not in _SYSTEM]
    if len(kept) == len(messages) or not any(turn["role"] == "user" for turn in kept):
        return None
    return kept


def _request(messages: Messages) -> int:
    """Where the last request ends: after it come begun answers, and turns that say little."""
    if all(turn["role"] != "assistant" for turn in messages):
        return len(messages)
    for brief in (_BRIEF, 0):
        end = len(messages)
        while end and not _asks(messages[end - 1], brief):
            end -= 1
        begun = any(turn["role"] == "assistant" for turn in messages[end:])
        if begun and any(turn["role"] == "user" for turn in messages[:end]):
            return end
    return len(messages)


def _asks(turn: Mapping[str, Any], brief: int) -> bool:
    """Whether a turn is somebody's who asks, and not the answer's beginning or a nudge.

    Texts of up to ``brief`` characters are nudges.
    """
    if turn["role"] == "assistant":
        return bool(turn.get("tool_calls"))
    content = turn.get("content")
    medium = isinstance(content, list) and any(part.get("type") != "text" for part in content)
    told = len(_text(turn).strip()) > brief
    return turn["role"] in ("tool", "function") or medium or told


def _forbids(turn: Mapping[str, Any]) -> bool:
    text = _text(turn)
    return _holds_a_word(text) if len(text) > _REMEMBERED else _remembered(text)


def _holds_a_word(text: str) -> bool:
    text = text.lower()
    return any(word in text for word in (_FORBIDS_IN_ASCII if text.isascii() else _FORBIDS))


# An application sends the same system prompt with every request.
_remembered = functools.lru_cache(maxsize=512)(_holds_a_word)


def _text(turn: Mapping[str, Any]) -> str:
    content = turn.get("content") or ""
    if isinstance(content, str):
        return content
    return " ".join(part.get("text") or "" for part in content)
