"""Word errors: the fewest changes that turn what was read into what was said."""

from __future__ import annotations

from collections.abc import Sequence


def word_errors(said: Sequence[str], read: Sequence[str]) -> int:
    """Words replaced, left out and added."""
    row = list(range(len(read) + 1))
    for number, word in enumerate(said, 1):
        corner, row[0] = row[0], number
        for place, other in enumerate(read, 1):
            corner, row[place] = (
                row[place],
                min(row[place] + 1, row[place - 1] + 1, corner + (word != other)),
            )
    return row[-1]
