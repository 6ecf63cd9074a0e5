"""What the server's processes hold: memory of each, by role, and open files."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

MINUTE = 60.0
_MIB = 2**20
_PAGE = 4096
# Names that processes give themselves, by what the table calls them.
_ROLES = {
    "media.worker": "media",
    "EngineCore": "scheduler",
    "Worker": "worker",
    "resource_tracker": "tracker",
}


@dataclass(frozen=True, slots=True)
class Footprint:
    """Resident memory in MiB by role, summed over its processes, and open files of all."""

    memory: dict[str, float]
    files: int

    @classmethod
    def of(cls, root: int) -> Footprint:
        """Measured now, from /proc; a process that ends meanwhile is left out."""
        memory: dict[str, float] = {}
        files = 0
        for pid in _family(root):
            try:
                pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                files += len(list(Path(f"/proc/{pid}/fd").iterdir()))
                role = "server" if pid == root else _role(pid)
            except OSError:
                continue
            memory[role] = memory.get(role, 0.0) + pages * _PAGE / _MIB
        return cls(memory, files)


@dataclass(slots=True)
class Log:
    """Footprints of one server, one a minute, the first at the beginning."""

    root: int
    every: float = MINUTE
    seen: list[Footprint] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def kept(self) -> Iterator[Log]:
        """Measure for the time of the block, and once more at its end."""
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()
        self.seen.append(Footprint.of(self.root))

    def growth(self, role: str) -> float:
        """By what share a role's memory has grown since the first third of the measurements."""
        first, last = self.seen[len(self.seen) // 3], self.seen[-1]
        before = first.memory.get(role, 0.0)
        return last.memory.get(role, 0.0) / before - 1.0 if before else 0.0

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            self.seen.append(Footprint.of(self.root))
            due += self.every


def _role(pid: int) -> str:
    line = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return next((role for name, role in _ROLES.items() if name in line), "other")


def _family(root: int) -> list[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(status[1])
    family = [root]
    for pid in family:
        family += [child for child, parent in parents.items() if parent == pid]
    return family
