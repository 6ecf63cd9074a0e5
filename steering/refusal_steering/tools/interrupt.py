"""Ctrl-C that ends a command also where a library under it swallows the interrupt."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STATUS = 130
"""Exit status of a command that the user ends."""
ENDED = "ended by the user"
_PATIENCE = 30.0


@contextmanager
def ends_on_ctrl_c(patience: float = _PATIENCE) -> Iterator[None]:
    """Ends the process ``patience`` seconds after a first Ctrl-C if it is still in the block then.

    vLLM's engine process gets the same signal, and a wait for its next answer can outlast it. What
    is on disk is whole at any moment, so that nothing is lost by an end without clean-up.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    timers: list[threading.Timer] = []

    def interrupted(number: int, frame: FrameType | None) -> None:
        if not timers:
            timers.append(threading.Timer(patience, _give_up))
            timers[0].daemon = True
            timers[0].start()
        signal.default_int_handler(number, frame)

    before = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        for timer in timers:
            timer.cancel()


def _give_up() -> None:
    sys.stderr.write(f"refusal-steering: {ENDED}\n")
    sys.stderr.flush()
    os._exit(STATUS)
