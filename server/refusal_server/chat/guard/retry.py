"""A request that was refused and is asked again: the conversations that say what is asked for.

Client libraries take a refusal for a broken answer and ask for a correction by themselves. The
correction alone looks harmless, so what is judged is the refused request together with it; and
where the correction speaks of the answer's form only, the refused request as it was.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from refusal_steering.detection.languages import refuses_in_any_language

Messages = Sequence[dict[str, Any]]


# What corrections are made of: a form, a fault of it, asking again, and the answer itself.
_CORRECTION = tuple(
    re.compile(words)
    for words in (
        r"json|xml|yaml|schema|format|syntax|pars(?:e|ing)|valid|válid|gültig|fields?\b"
        r"|格式|有效|形式|формат|형식|صيغة",
        r"error|incorrect|wrong|empty|missing|incomplete|truncat|fehler|leer|vac[ií]|\bvide\b"
        r"|erreur|ошибк|пуст|错误|空|エラー|오류|خطأ",
        r"correct|\bfix|repair|again|retry|re-?send|recall|redo|regenerat|korrig|noch ?mal"
        r"|noch einmal|corrig|à nouveau|otra vez|de novo|исправ|снова|更正|重新|修正|もう一度|다시"
        r"|صحح|أعد",
        r"answer|response|reply|output|completion|function|tool|antwort|réponse|respuesta"
        r"|resposta|risposta|ответ|回答|答案|応答|답변|إجابة",
    )
)
_SPEAKS_OF_FORM = 2
# Who may ask again: some clients correct in the system's name.
_ASKING = ("user", "system", "developer")
_ANSWERS = ("answer", "content", "message", "output", "response", "text")
# What clients write in place of an answer that has no text.
_NO_WORDS = re.compile(r"[\W_]+")
_LONGEST_NOTHING = 32
_NOTHING = frozenset(
    {
        *("", "null", "none", "nil", "undefined", "empty"),
        *(f"{no}{what}" for no in ("no", "empty") for what in _ANSWERS),
    }
)


def retried(messages: Messages, refusal: str) -> list[list[dict[str, Any]]]:
    """What a retry asks for, as conversations; none where no request was refused before.

    The conversation up to the first refused request with all that was asked later added to it;
    and, where the last turn only corrects, the same without it. ``refusal`` is the server's own
    text of a refusal, in whatever words its operator wrote it.
    """
    place = _refused(messages, refusal)
    if place is None:
        return []
    later = [message for message in messages[place:] if message["role"] in _ASKING]
    parts = [part for message in later for part in _parts(message)]
    found = [[*messages[:place], {"role": "user", "content": parts}]]
    if _corrects(later[-1]):
        found.append(list(messages[: place + 1]))
    return found


def _corrects(message: Mapping[str, Any]) -> bool:
    text = " ".join(part.get("text") or "" for part in _parts(message)).lower()
    return sum(words.search(text) is not None for words in _CORRECTION) >= _SPEAKS_OF_FORM


def _refused(messages: Messages, refusal: str) -> int | None:
    """Place of the first user turn whose answer refuses it, or says nothing at all.

    Some clients leave out an answer that was empty: a correction then follows the request.
    """
    asked: int | None = None
    for place, message in enumerate(messages):
        if message["role"] == "user":
            asked = place
        elif message["role"] == "assistant" and asked is not None and _refuses(message, refusal):
            later = messages[place + 1 :]
            return asked if any(turn["role"] in _ASKING for turn in later) else None
    return _left_without_answer(messages)


def _left_without_answer(messages: Messages) -> int | None:
    """Place of the first of the user's turns at the end, where the last of them corrects."""
    first = len(messages)
    while first and messages[first - 1]["role"] == "user":
        first -= 1
    several = len(messages) - first > 1
    return first if several and _corrects(messages[-1]) else None


def _refuses(message: Mapping[str, Any], refusal: str) -> bool:
    if message.get("tool_calls"):
        return False
    text = message.get("content") or ""
    if not isinstance(text, str):
        text = " ".join(part.get("text") or part.get("refusal") or "" for part in text)
    if _says_nothing(text) or message.get("refusal") or refusal in text:
        return True
    return refuses_in_any_language(text)


def _says_nothing(text: str) -> bool:
    text = text.strip()
    return len(text) <= _LONGEST_NOTHING and _NO_WORDS.sub("", text).lower() in _NOTHING


def _parts(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content")
    if isinstance(content, list):
        return content
    return [{"type": "text", "text": content}] if content else []
