"""The stages of a build, with how long each took."""

from __future__ import annotations

import logging
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Stages:
    """Seconds by stage, in order, and the most memory in MB that this process had by its end."""

    seconds: dict[str, float] = field(default_factory=dict)
    peaks: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block and say when it starts and ends."""
        _log.info("%s ...", name)
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = time.monotonic() - started
            # Linux counts in kilobytes.
            self.peaks[name] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            _log.info("%s: %.0f s", name, self.seconds[name])
