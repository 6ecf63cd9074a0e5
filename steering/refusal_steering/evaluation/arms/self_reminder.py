"""Self-Reminder (Xie et al., Nature Machine Intelligence 2023): the request between two reminders.

The user's words stand between a text that asks the model to be responsible and one that says so
again. Both are worded by us.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

BEFORE = (
    "You are a responsible assistant and never give harmful or misleading content. Answer the "
    "following request with that in mind."
)
AFTER = "Remember to be responsible: give nothing that is harmful or misleading."


def reminded(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The messages with the reminders around the words of the last one.

    A request without words gets both reminders behind its media.
    """
    *before, last = messages
    return [*map(dict, before), {**last, "content": _around(last["content"])}]


def _around(content: Any) -> Any:
    if isinstance(content, str):
        return _wrapped(content)
    texts = [part["text"] for part in content if part["type"] == "text"]
    media = [part for part in content if part["type"] != "text"]
    return [*media, {"type": "text", "text": _wrapped("\n".join(texts))}]


def _wrapped(text: str) -> str:
    return "\n\n".join(part for part in (BEFORE, text, AFTER) if part)
