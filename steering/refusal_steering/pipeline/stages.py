"""The stages of a build, with how long each took, and a line on the terminal that keeps moving."""

from __future__ import annotations

import logging
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

EVERY_SECONDS = 1.0
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Stages:
    """Seconds by stage, in order, and the most memory in MB that this process had by its end."""

    seconds: dict[str, float] = field(default_factory=dict)
    peaks: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block and say when it starts and ends; a clock runs on a terminal meanwhile."""
        _log.info("%s ...", name)
        started = time.monotonic()
        try:
            with _clock(name):
                yield
        finally:
            self.seconds[name] = time.monotonic() - started
            # Linux counts in kilobytes.
            self.peaks[name] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            _log.info("%s: %.0f s", name, self.seconds[name])


@contextmanager
def _clock(name: str) -> Iterator[None]:
    """A line with the time since the block began; whatever the block waits for, it moves."""
    line = tqdm(desc=name, bar_format="{desc} {elapsed}", leave=False, disable=None)
    apart = nullcontext() if line.disable else logging_redirect_tqdm()
    with apart, line, ticking(line.refresh):
        yield


@contextmanager
def ticking(tick: Callable[[], object]) -> Iterator[None]:
    """Call ``tick`` again and again, from a thread of its own, until the block ends."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(EVERY_SECONDS):
            tick()

    thread = threading.Thread(target=run, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
