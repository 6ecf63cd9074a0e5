"""How long our own code takes for one request, in pieces."""

from __future__ import annotations

import time


class Stopwatch:
    """Adds up the time spent inside ``with`` blocks; one request's, not to be nested."""

    __slots__ = ("_since", "seconds")

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self._since = 0.0

    def __enter__(self) -> None:
        self._since = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._since
