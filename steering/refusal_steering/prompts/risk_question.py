"""The rewording of a conversation whose risk is asked for, and the taming of quoted contexts.

A visual context is text that the model wrote while it looked at a picture somebody sent: whoever
drew the picture may have dictated it. It enters the risk prompt as one quoted line that cannot
leave its quotes and cannot spell a control token of a chat template.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

MAX_QUOTED = 600
QUOTE = '"'
# Types of the content parts that bring a medium.
_MEDIA = ("image_url", "input_audio", "audio_url", "video_url")
_PLACE = re.compile(r"\{(question|context)\}")
_TEMPLATE_MARKS = re.compile(r"[<>|\[\]{}\\`\u2581]")
_CHARACTER_KINDS_DROPPED = ("C", "Zl", "Zp")


def takes_context(template: str) -> bool:
    """Whether a risk prompt has a place for visual contexts."""
    return "{context}" in template


def reworded(
    messages: Sequence[dict[str, Any]], template: str, contexts: Iterable[str] = ()
) -> list[dict[str, Any]]:
    """``messages`` with the last user turn asked about instead of asked.

    What stands before that turn stays. What comes after it (results of tools, a begun answer)
    joins its text, so that nothing which shapes the answer escapes the question; media of both
    stay beside the text.
    """
    start = _last_user_turn(messages)
    history, asked = list(messages[:start]), list(messages[start:])
    values = {
        "question": "\n".join(text for message in asked for text in _texts(message)),
        "context": " ".join(quote for quote in map(quoted, contexts) if quote),
    }
    # One pass: what a value says is never taken for a place.
    prompt = _PLACE.sub(lambda place: values[place[1]], template)
    media = [part for message in asked for part in _parts(message) if part["type"] in _MEDIA]
    content: Any = [*media, {"type": "text", "text": prompt}] if media else prompt
    return [*history, {"role": "user", "content": content}]


def quoted(text: str) -> str:
    """One line in quotes of at most 600 characters; empty if nothing of ``text`` remains."""
    plain = unicodedata.normalize("NFKC", text)
    plain = "".join(map(_tame, _TEMPLATE_MARKS.sub(" ", plain)))
    plain = " ".join(plain.split())[:MAX_QUOTED].strip()
    return f"{QUOTE}{plain}{QUOTE}" if plain else ""


def _tame(character: str) -> str:
    kind = unicodedata.category(character)
    if kind.startswith(_CHARACTER_KINDS_DROPPED):
        return " "
    name = unicodedata.name(character, "")
    looks_like_a_quote = kind in ("Pi", "Pf") or "QUOTATION" in name or "PRIME" in name
    return "'" if looks_like_a_quote or character == QUOTE else character


def _last_user_turn(messages: Sequence[dict[str, Any]]) -> int:
    places = [place for place, message in enumerate(messages) if message["role"] == "user"]
    return places[-1] if places else len(messages) - 1


def _texts(message: dict[str, Any]) -> list[str]:
    content = message.get("content")
    if isinstance(content, str):
        return [content]
    found = (part.get("text", part.get("refusal")) for part in _parts(message))
    return [text for text in found if isinstance(text, str)]


def _parts(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    return content if isinstance(content, list) else []
