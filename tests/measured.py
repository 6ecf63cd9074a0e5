"""Coverage of a program that a test starts.

A run of the fast tests measures the processes of xdist alone: to measure every program that they
start would slow all of them down. A test whose laws are played in a process of its own asks.
"""

from __future__ import annotations

import os

# How coverage.py tells a new process to measure itself, and where a run keeps that meanwhile.
COVERAGE = "COVERAGE_PROCESS_CONFIG"
MEASURED = "REFUSAL_TESTS_COVERAGE"


def measured(**more: str) -> dict[str, str]:
    """The environment of a program that is measured if this run is, with ``more`` in it."""
    asked = os.environ.get(MEASURED)
    return {**os.environ, **({COVERAGE: asked} if asked else {}), **more}
