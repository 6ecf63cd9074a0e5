"""One sink of several processes: one of them writes at a time, a whole line."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from refusal_server.telemetry.audit.rotating_file import LineSink


class LockedSink:
    """Holds a lock on the file at ``lock``, which all of them open, while ``sink`` writes."""

    def __init__(self, sink: LineSink, lock: Path) -> None:
        self._sink = sink
        self._lock = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, line: bytes) -> None:
        """As :meth:`LineSink.write`; waits for its turn."""
        with self._turn():
            self._sink.write(line)

    def sync(self) -> None:
        """As :meth:`LineSink.sync`."""
        self._sink.sync()

    def close(self) -> None:
        """As :meth:`LineSink.close`."""
        self._sink.close()
        os.close(self._lock)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)
