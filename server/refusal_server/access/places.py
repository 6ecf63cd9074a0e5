"""Places for what runs at the same time: a number for each key, and one over all callers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from refusal_server.access.tally import LocalTally, Tally
from refusal_server.caller import Caller
from refusal_server.errors import ApiError

_RETRY = {"retry-after": "1"}


class Places:
    """Counts who holds a place; without a ``tally`` this process counts for itself.

    ``what`` names the work in messages, ``code`` is the error's where a key has no place left.
    """

    def __init__(self, what: str, code: str, tally: Tally | None = None) -> None:
        self._what = what
        self._code = code
        self._tally = LocalTally() if tally is None else tally

    def unlimited(self, caller: Caller, most: int | None) -> bool:
        """Whether the caller has no limit of its own: without a name it cannot be told apart."""
        return caller.name is None or most is None

    @asynccontextmanager
    async def of_key(self, caller: Caller, most: int | None) -> AsyncIterator[None]:
        """Hold one of the key's ``most`` places during the block; raises a 429 if none is left."""
        if caller.name is None or most is None:
            yield
            return
        room = json.dumps([self._code, caller.name])
        leave = await self._tally.enter(room, most)
        if leave is None:
            raise ApiError(
                429,
                f"The API key has {most} {self._what} in progress, as many as it may have.",
                code=self._code,
                headers=_RETRY,
            )
        try:
            yield
        finally:
            leave()

    @asynccontextmanager
    async def of_all(self, most: int) -> AsyncIterator[None]:
        """Hold one of ``most`` places of all callers; raises a 503 if none is left."""
        room = json.dumps([self._code])
        leave = await self._tally.enter(room, most)
        if leave is None:
            message = f"The server has {most} {self._what} in progress, as many as it takes."
            raise ApiError(503, message, code="server_overloaded", headers=_RETRY)
        try:
            yield
        finally:
            leave()


def requests_in_progress(tally: Tally | None = None) -> Places:
    """The places of requests that are being answered."""
    return Places("requests", "concurrent_requests_exceeded", tally)
