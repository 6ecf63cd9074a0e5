"""Whether a text reads as a refusal: a lexical look at its beginning, light enough for a server.

English only, and not exact. Where the server is wrong the cost is bounded: the model itself wrote
the text under steering that its own hidden state had earned.
"""

from __future__ import annotations

import re

_HEAD = 200
_REGRET = (
    r"\bi ?(?:'m|am) (?:very |so |truly |really )?sorry\b|\bsorry,? but i\b|\bi apologi[sz]e\b"
)
_INABILITY = (
    r"\bi ?(?:can't|cannot|can not|won't|will not|must decline|refuse|decline"
    r"|(?:'m|am) (?:unable|not able|not willing|not going))\b"
)
# `be` ends there: "I can't believe it" refuses nothing.
_DEED = (
    r" (?:to )?(?:assist|help|provide|fulfil|support|do|create|write|answer|comply|give|engage"
    r"|generate|continue|share|offer|teach|explain|recommend|encourage|condone|discuss|be\b"
    r"|participate|respond)"
)
_REFUSAL = re.compile(f"{_REGRET}|{_INABILITY}{_DEED}")


def reads_as_refusal(text: str) -> bool:
    """Whether the first 200 characters of ``text`` refuse."""
    return _REFUSAL.search(text[:_HEAD].lower().replace("\u2019", "'")) is not None
