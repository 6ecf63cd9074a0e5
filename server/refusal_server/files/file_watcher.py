"""Sees when a file's content changes, also where a whole folder is swapped by a link."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from watchfiles import awatch

logger = logging.getLogger(__name__)

_DEBOUNCE_MILLISECONDS = 500
_QUIET_MILLISECONDS = 100
_LOOK_AGAIN_MILLISECONDS = 5000
_RETRY_SECONDS = 5.0


class FileWatcher:
    """Calls ``changed`` after the file at ``path`` has changed and been left alone for a moment.

    The folder is watched, not the file: editors replace files, and a mounted ConfigMap swaps the
    link ``..data`` beside them. Other files there cause nothing. Every few seconds the file is
    looked at anyway, for folders that are replaced themselves or tell of no changes.
    """

    def __init__(self, path: Path, changed: Callable[[], Awaitable[object]]) -> None:
        self._path = path
        self._changed = changed
        # Nothing seen yet: what has changed since the file was loaded must show.
        self._seen: tuple[str, int, str] | None = None

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            try:
                await self._look()
                async for _ in awatch(
                    self._path.parent,
                    watch_filter=None,
                    debounce=_DEBOUNCE_MILLISECONDS,
                    step=_QUIET_MILLISECONDS,
                    rust_timeout=_LOOK_AGAIN_MILLISECONDS,
                    yield_on_timeout=True,
                    recursive=False,
                ):
                    await self._look()
            except Exception as error:
                logger.warning("%s cannot be watched, trying again: %s", self._path, error)
            await asyncio.sleep(_RETRY_SECONDS)

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
