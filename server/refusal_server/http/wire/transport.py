"""A connection's transport that closes without tearing an answer away."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

_LINGER_SECONDS = 1.0


class Owner(Protocol):
    """Whose transport it is, and what it must know of that."""

    loop: asyncio.AbstractEventLoop
    write_seconds: float

    @property
    def unread(self) -> bool:
        """Whether the client is still sending what nobody will read."""

    @property
    def full(self) -> bool:
        """Whether no more is to be read now, whoever asks for it."""

    def closes(self) -> None:
        """The connection will end; deadlines have no meaning any more."""


class LingeringTransport:
    """Closes so that a client which is still sending gets our answer, not a reset.

    A client that does not read its answer is cut off when ``write_seconds`` are over.
    """

    def __init__(self, transport: asyncio.Transport, owner: Owner) -> None:
        self._transport = transport
        self._owner = owner
        self._lingers = False
        # Found at once for every event of every stream.
        self.write = transport.write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Whether nothing more may be written."""
        return self._lingers or self._transport.is_closing()

    def resume_reading(self) -> None:
        """Read on, unless the owner has enough."""
        if not self._owner.full:
            self._transport.resume_reading()

    def close(self) -> None:
        """End the connection once what was written is out; the last ``close`` does at once."""
        self._owner.closes()
        if self.is_closing() or not self._owner.unread or not self._transport.can_write_eof():
            if self._transport.get_write_buffer_size() and not self._transport.is_closing():
                self._owner.loop.call_later(self._owner.write_seconds, self._transport.abort)
            self._transport.close()
            return
        self._lingers = True
        self._transport.write_eof()
        self._transport.resume_reading()
        self._owner.loop.call_later(_LINGER_SECONDS, self._transport.abort)
