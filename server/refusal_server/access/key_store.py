"""The API keys in force, and how a changed key file takes their place."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Protocol

from refusal_server.access.key_file import OPEN, Keyring, load_keyring
from refusal_server.caller import Caller

logger = logging.getLogger(__name__)


class KeyGauges(Protocol):
    """Where operators see whether the key file on disk is in force."""

    def keys_reloaded(self, success: bool) -> None:
        """An attempt to load the key file has ended."""


class KeyStore:
    """Holds one :class:`Keyring`; a file with an error leaves the last good one in force."""

    def __init__(self, path: Path | None, key: str | None, gauges: KeyGauges) -> None:
        self._path = path
        self._key = key
        self._gauges = gauges
        self._lock = asyncio.Lock()
        self.current = self._read()
        if path is not None:
            gauges.keys_reloaded(True)

    def admit(self, token: bytes | None) -> Caller | None:
        """The holder of ``token`` under the keys in force; ``None`` for nobody's."""
        return self.current.admit(token)

    async def reload(self) -> bool:
        """Read the file again; on any error log it, keep what is in force, return ``False``."""
        async with self._lock:
            try:
                found = await asyncio.to_thread(self._read)
            except Exception as error:
                logger.error("keys not reloaded, the last good ones stay: %s", error)
                self._gauges.keys_reloaded(False)
                return False
            changed, self.current = found != self.current, found
        self._gauges.keys_reloaded(True)
        if changed:
            logger.info("%d API keys are in force", len(found.entries))
        return True

    def _read(self) -> Keyring:
        if self._path is None:
            return OPEN if self._key is None else Keyring().plus(self._key)
        return load_keyring(self._path).plus(self._key)
