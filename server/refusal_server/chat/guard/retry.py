"""A request that was refused and is asked again: the conversation with the retry folded into it.

Client libraries take a refusal for a broken answer and ask for a correction by themselves. The
correction alone looks harmless, so what is judged is the refused request together with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from refusal_steering.detection.languages import refuses_in_any_language

Messages = Sequence[dict[str, Any]]


def retried(messages: Messages) -> list[dict[str, Any]] | None:
    """The conversation up to the first refused request, with all later user turns added to it.

    ``None`` where no request of the conversation was refused.
    """
    place = _refused(messages)
    if place is None:
        return None
    later = [message for message in messages[place:] if message["role"] == "user"]
    parts = [part for message in later for part in _parts(message)]
    return [*messages[:place], {"role": "user", "content": parts}]


def _refused(messages: Messages) -> int | None:
    """Place of the first user turn whose answer refuses it, or says nothing at all."""
    asked: int | None = None
    for place, message in enumerate(messages):
        if message["role"] == "user":
            asked = place
        elif message["role"] == "assistant" and asked is not None and _refuses(message):
            later = messages[place + 1 :]
            return asked if any(turn["role"] == "user" for turn in later) else None
    return None


def _refuses(message: Mapping[str, Any]) -> bool:
    if message.get("tool_calls"):
        return False
    text = " ".join(part.get("text") or part.get("refusal") or "" for part in _parts(message))
    return not text.strip() or bool(message.get("refusal")) or refuses_in_any_language(text)


def _parts(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    if isinstance(content, list):
        return content
    return [{"type": "text", "text": content}] if content else []
