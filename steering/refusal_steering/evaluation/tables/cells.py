"""What stands in the cells of a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def rate(found: Mapping[str, Any]) -> str:
    """A share with Wilson's interval, in percent; a dash of nothing."""
    if found["value"] is None:
        return "-"
    low, high = found["wilson95"]
    return f"{share(found['value'])} ({100 * low:.1f} to {100 * high:.1f})"


def share(value: float | None) -> str:
    """A share in percent; a dash for none."""
    return "-" if value is None else f"{100 * value:.1f} %"


def line(cells: Sequence[str]) -> str:
    """One row of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def table(head: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table."""
    return [line(row) for row in (head, ("---",) * len(head), *body)]
