"""The slowest answer of ``/live`` while a block runs, asked by a process of its own.

    python -m tests.attack.pulse URL

asks until its input ends, and prints what it saw. A thread of the suite would wait for the suite's
own work as well, which builds bodies of many megabytes.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx2

from tests.needs import ROOT

_PAUSE_SECONDS = 0.05


@dataclass(slots=True)
class Pulse:
    """Seconds of the slowest answer, how many failed, and how many there were."""

    slowest: float = 0.0
    failed: int = 0
    count: int = 0

    def beat(self, client: httpx2.Client) -> None:
        """Ask once."""
        started = time.monotonic()
        try:
            client.get("/live").raise_for_status()
        except httpx2.HTTPError:
            self.failed += 1
        self.slowest = max(self.slowest, time.monotonic() - started)
        self.count += 1


@contextmanager
def pulse_taken(url: str) -> Iterator[Pulse]:
    """Ask the server at ``url`` for the time of the block; what was seen is there after it."""
    found = Pulse()
    command = [sys.executable, "-m", "tests.attack.pulse", url]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=ROOT, text=True) as asking:
        yield found
        printed, _ = asking.communicate()
    found.slowest, found.failed, found.count = json.loads(printed)


def main() -> None:
    """Ask until the input ends, then print the three figures as JSON."""
    pulse = Pulse()
    with httpx2.Client(base_url=sys.argv[1], timeout=30) as client:
        while not select.select([sys.stdin], [], [], _PAUSE_SECONDS)[0]:
            pulse.beat(client)
    sys.stdout.write(json.dumps([pulse.slowest, pulse.failed, pulse.count]))


if __name__ == "__main__":
    main()
