"""Something that goes on in a thread of its own while a block runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def beside(run: Callable[[], None], stop: threading.Event) -> Iterator[None]:
    """Run ``run``, which ends when ``stop`` is set, until the block ends."""
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
