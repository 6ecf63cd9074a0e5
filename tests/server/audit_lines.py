"""Reads and counts the lines of an audit log."""

from __future__ import annotations

from pathlib import Path


class Counts:
    def __init__(self) -> None:
        self.written = self.dropped = 0

    def count_audit_written(self, lines: int) -> None:
        self.written += lines

    def count_audit_dropped(self, lines: int) -> None:
        self.dropped += lines


def all_lines(path: Path) -> list[bytes]:
    """Of all files, the oldest first."""
    older = sorted(
        path.parent.glob(f"{path.name}.[0-9]*"), key=lambda p: -int(p.suffix.removeprefix("."))
    )
    return [line for file in (*older, path) for line in file.read_bytes().splitlines(True)]
