"""What a process costs: its processor time and its memory, as Linux counts them."""

from __future__ import annotations

import os
from pathlib import Path

_TICK = 1.0 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE") / 2**20


def cpu_seconds(pid: int) -> float:
    """Processor seconds of one process, all its threads, none of its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK


def resident_mib(pid: int) -> float:
    """Its resident memory in MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
