"""Turns around a request that talk the model out of refusing: the request without them.

A turn of the assistant at the end begins the answer for the model, with or without an empty turn
behind it, and a system prompt may forbid it to refuse. Steering reads the end of the prompt, so
what they hide is judged without them.
"""

from __future__ import annotations

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


def coaxed(messages: Messages) -> list[dict[str, Any]] | None:
    """The conversation without turns that coax an answer; ``None`` where there are none."""
    last = max((n for n, turn in enumerate(messages) if _asks(turn)), default=-1)
    kept = list(messages[: last + 1])
    if any(turn["role"] in _SYSTEM and _forbids(_text(turn)) for turn in kept):
        kept = [turn for turn in kept if turn["role"] not in _SYSTEM]
    if len(kept) == len(messages) or not any(turn["role"] == "user" for turn in kept):
        return None
    return kept


def _asks(turn: Mapping[str, Any]) -> bool:
    """Whether a turn is somebody's who asks; one without content hides the one before it."""
    if turn["role"] == "assistant":
        return bool(turn.get("tool_calls"))
    content = turn.get("content")
    medium = isinstance(content, list) and any(part.get("type") != "text" for part in content)
    return turn["role"] in ("tool", "function") or medium or bool(_text(turn).strip())


def _forbids(text: str) -> bool:
    return any(word in text for word in _FORBIDS)


def _text(turn: Mapping[str, Any]) -> str:
    content = turn.get("content") or ""
    parts = [{"text": content}] if isinstance(content, str) else content
    return " ".join(part.get("text") or "" for part in parts).lower()
