"""An append-only file that rotates by size and count, and survives a disk that does not."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Protocol

_MODE = 0o600


class LineSink(Protocol):
    """Where audit lines go."""

    def write(self, line: bytes) -> None:
        """Append one whole line, or raise ``OSError`` and leave nothing of it."""

    def sync(self) -> None:
        """Force what was written to the disk, or raise ``OSError``."""

    def close(self) -> None:
        """Let go of everything; never raises."""


class RotatingFile:
    """``path``, ``path.1`` ... ``path.<backups>``, none over ``max_bytes`` but for a longer line.

    Opened at the first write and again after every error, so that it comes back with the disk.
    Also opened again when somebody else has moved the file away. One process writes it: a second
    one gets an ``OSError``. A ``shared`` file is written by several, one at a time.
    """

    def __init__(self, path: Path, max_bytes: int, backups: int, *, shared: bool = False) -> None:
        self._hold = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        self._path = path
        self._max_bytes = max_bytes
        self._backups = backups
        self._fd: int | None = None
        self._size = 0

    def write(self, line: bytes) -> None:
        """Append ``line``, to a new file where this one is full."""
        try:
            _write_all(self._ready(len(line)), line)
        except OSError:
            self._undo()
            raise
        self._size += len(line)

    def sync(self) -> None:
        """Force the file to the disk; files that were rotated away are there already."""
        if self._fd is not None:
            try:
                os.fsync(self._fd)
            except OSError:
                self.close()
                raise

    def close(self) -> None:
        """Close the file; it opens again at the next write."""
        fd, self._fd = self._fd, None
        if fd is not None:
            with contextlib.suppress(OSError):
                os.close(fd)

    def _ready(self, more: int) -> int:
        if self._fd is not None and not self._is_in_place(self._fd):
            self.close()
        fd = self._open() if self._fd is None else self._fd
        if self._hold == fcntl.LOCK_SH:
            self._size = os.fstat(fd).st_size
        if self._size and self._size + more > self._max_bytes:
            self._rotate()
            fd = self._open()
        return fd

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        fd = os.open(self._path, flags, _MODE)
        try:
            fcntl.flock(fd, self._hold | fcntl.LOCK_NB)
            size = os.fstat(fd).st_size
        except OSError:
            os.close(fd)
            raise
        self._fd, self._size = fd, size
        return fd

    def _is_in_place(self, fd: int) -> bool:
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return False
        here = os.fstat(fd)
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)

    def _rotate(self) -> None:
        self.sync()
        self.close()
        for number in range(self._backups, 0, -1):
            older = self._numbered(number - 1)
            if older.exists():
                os.replace(older, self._numbered(number))
        if not self._backups:
            os.unlink(self._path)

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path

    def _undo(self) -> None:
        """Cut off what a full disk took half of, so that the next line begins a line."""
        fd = self._fd
        if fd is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, self._size)
        self.close()


class StreamSink:
    """Standard output or any other open descriptor; not closed."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, line: bytes) -> None:
        """Append ``line``."""
        _write_all(self._fd, line)

    def sync(self) -> None:
        """Nothing: whoever reads the stream keeps it."""

    def close(self) -> None:
        """Nothing: the descriptor is somebody else's."""


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
