"""Engines on one core start one after another."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Processes of xdist's have a core each, and so a turn each.
_LOCK = Path(tempfile.gettempdir()) / f"engine-{os.environ.get('PYTEST_XDIST_WORKER', 'one')}.lock"


@contextmanager
def one_engine() -> Iterator[None]:
    """Whoever starts an engine waits here for those before; this keeps nobody from running."""
    with _LOCK.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
