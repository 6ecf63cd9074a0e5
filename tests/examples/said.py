"""What a program prints that must succeed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def said(*command: str | Path, given: str = "", **variables: str) -> str:
    """Its standard output, with ``given`` as input and ``variables`` in its environment."""
    done = subprocess.run(
        [str(word) for word in command],
        input=given,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
