"""Places for what runs at the same time: a number for each key, and one over all callers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from refusal_server.caller import Caller
from refusal_server.errors import ApiError

_RETRY = {"retry-after": "1"}


class Places:
    """Counts who holds a place; each process counts for itself.

    ``what`` names the work in messages, ``code`` is the error's where a key has no place left.
    """

    def __init__(self, what: str, code: str) -> None:
        self._what = what
        self._code = code
        self._held: Counter[str] = Counter()
        self._all = 0

    def __len__(self) -> int:
        return len(self._held)

    @contextmanager
    def of_key(self, caller: Caller, most: int | None) -> Iterator[None]:
        """Hold one of the key's ``most`` places during the block; raises a 429 if none is left.

        Callers without a name cannot be told apart and have no limit of their own.
        """
        name = caller.name
        if name is None or most is None:
            yield
            return
        if self._held[name] >= most:
            raise ApiError(
                429,
                f"The API key has {most} {self._what} in progress, as many as it may have.",
                code=self._code,
                headers=_RETRY,
            )
        self._held[name] += 1
        try:
            yield
        finally:
            self._held[name] -= 1
            if not self._held[name]:
                # Keys come and go; those that hold nothing are forgotten.
                del self._held[name]

    @contextmanager
    def of_all(self, most: int) -> Iterator[None]:
        """Hold one of ``most`` places of all callers; raises a 503 if none is left."""
        if self._all >= most:
            message = f"The server has {most} {self._what} in progress, as many as it takes."
            raise ApiError(503, message, code="server_overloaded", headers=_RETRY)
        self._all += 1
        try:
            yield
        finally:
            self._all -= 1


def requests_in_progress() -> Places:
    """The places of requests that are being answered."""
    return Places("requests", "concurrent_requests_exceeded")
