"""The letter that an answer to a multiple-choice question gives."""

from __future__ import annotations

import re

_LEADING = re.compile(
    r"\W*(?:(?:the )?(?:right |correct )?answer(?: is)?\W*)?([A-J])(?=\s*(?:$|[\n.,:;)*\]]))", re.I
)


def chosen_letter(text: str) -> str | None:
    """The letter at the start, in capitals; ``None`` where the answer begins in another way."""
    found = _LEADING.match(text)
    return found[1] if found is not None and found[1].isupper() else None
