"""Notices when the content of a file changes, also where a link swaps the whole folder."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from watchfiles import awatch

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a :class:`FileWatcher` waits, in seconds.

    After a change the folder is left alone until nothing else in it has changed for ``quiet``, at
    most for ``debounce``. The file is looked at anyway every ``look_again``, and a watch that
    failed starts anew after ``retry``.
    """

    quiet: float = 0.1
    debounce: float = 0.5
    look_again: float = 5.0
    retry: float = 5.0


class FileWatcher:
    """Calls ``changed`` after the file at ``path`` has changed and been left alone for a moment.

    The folder is watched, not the file: editors replace files, and a mounted ConfigMap swaps the
    link ``..data`` beside them. Other files there cause nothing. Every few seconds the file is
    looked at anyway, for folders that are replaced themselves or tell of no changes.
    """

    def __init__(
        self, path: Path, changed: Callable[[], Awaitable[object]], pace: Pace | None = None
    ) -> None:
        self._path = path
        self._changed = changed
        self._pace = pace or Pace()
        # Nothing seen yet: what has changed since the file was loaded must show.
        self._seen: tuple[str, int, str] | None = None

    async def run(self) -> None:
        """Watch until cancelled."""
        pace = self._pace
        while True:
            try:
                await self._look()
                async for _ in awatch(
                    self._path.parent,
                    watch_filter=None,
                    debounce=round(pace.debounce * 1000),
                    step=round(pace.quiet * 1000),
                    rust_timeout=round(pace.look_again * 1000),
                    yield_on_timeout=True,
                    recursive=False,
                ):
                    await self._look()
            except Exception as error:
                logger.warning("%s cannot be watched, trying again: %s", self._path, error)
            await asyncio.sleep(pace.retry)

    async def _look(self) -> None:
        found = await asyncio.to_thread(_fingerprint, self._path)
        if found != self._seen:
            self._seen = found
            await self._changed()


def _fingerprint(path: Path) -> tuple[str, int, str]:
    try:
        real = path.resolve()
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        return str(real), real.stat().st_mtime_ns, content
    except OSError as error:
        return "", 0, type(error).__name__
