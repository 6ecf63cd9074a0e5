"""The beginning of what was said, from whole answers and from streams.

A stream's events are only kept while it runs, and only as many as can matter; they are read when
it has ended. What a model thinks before it answers is not its answer and is never looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from refusal_steering.detection.detector import HEAD

_EVENT = "data: "
# vLLM writes compact JSON; inside strings every quote is escaped, so these marks are fields.
_CONTENT, _REFUSAL = '"content":"', '"refusal":"'
_NO_CONTENT, _NO_REFUSAL = f'{_CONTENT}"', f'{_REFUSAL}"'
_CALLS = '"tool_calls":[{'
_INDEX = re.compile(r'"choices":\[\{"index":(\d+)')
# For each choice. Only log-probabilities make events so long, and a token is several characters.
_MAX_KEPT = 512 * 1024


@dataclass(frozen=True, slots=True)
class Said:
    """What one choice says: the first :data:`HEAD` characters of its text, and whether it acts.

    A choice that calls a tool has not refused, even if its text refuses.
    """

    head: str = ""
    calls: bool = False


def said_by(message: Any) -> Said:
    """What a message of a whole answer says."""
    text = message.content or message.refusal or ""
    return Said(text[:HEAD], bool(message.tool_calls))


@dataclass(slots=True)
class _Kept:
    events: list[str] = field(default_factory=list)
    size: int = 0
    calls: bool = False

    def add(self, event: str) -> None:
        if len(self.events) < HEAD and self.size < _MAX_KEPT:
            self.events.append(event)
            self.size += len(event)


class StreamedAnswer:
    """Keeps those events of one stream that show how its ``choices`` begin.

    An event that says something brings at least one character, so that :data:`HEAD` of them for
    each choice are enough however the text is cut.
    """

    def __init__(self, choices: int = 1) -> None:
        self._kept = [_Kept() for _ in range(choices)]

    def add(self, event: str) -> None:
        """Look at one server-sent event: a few substring searches, no parsing."""
        if _CALLS in event:
            self._of(event).calls = True
        if (_CONTENT in event and _NO_CONTENT not in event) or (
            _REFUSAL in event and _NO_REFUSAL not in event
        ):
            self._of(event).add(event)

    def said(self) -> list[Said]:
        """What each choice has said so far."""
        return [Said(_head(kept.events), kept.calls) for kept in self._kept]

    def _of(self, event: str) -> _Kept:
        found = _INDEX.search(event) if len(self._kept) > 1 else None
        return self._kept[min(int(found[1]), len(self._kept) - 1) if found else 0]


def _head(events: Sequence[str]) -> str:
    head = ""
    for event in events:
        if len(head) >= HEAD:
            break
        head += "".join(_texts(json.loads(event.removeprefix(_EVENT))))
    return head[:HEAD]


def _texts(chunk: Mapping[str, Any]) -> list[str]:
    deltas = [choice.get("delta") or {} for choice in chunk.get("choices") or ()]
    return [delta.get("content") or delta.get("refusal") or "" for delta in deltas]
