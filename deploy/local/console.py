"""What the set-up scripts say, and how they run other programs. Standard library only."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

_TICK_SECONDS = 0.5
_PLAIN_TICK_SECONDS = 20.0
_WIDTH = 100
_TAIL = 25
# pip says the first for every package where a listed folder lacks it, the others before a long
# silence in which it installs.
_NOISE = (
    "WARNING: Location",
    "Attempting uninstall",
    "Found existing installation",
    "Uninstalling",
    "Successfully uninstalled",
)


class SetupError(Exception):
    """A step failed; the message says what was wrong and what to do about it."""


def say(message: str) -> None:
    """Write one line to the standard error stream, at once."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


@contextmanager
def exclusive(lock: Path, task: str) -> Iterator[None]:
    """Let one process at a time do a task; the others wait for the lock file, and say so."""
    with open(lock, "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{task}: another process is at it, waiting")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Progress:
    """One line that grows while a step runs: redrawn on a terminal, repeated in a log file."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._terminal = sys.stderr.isatty()
        self._started = self._drawn = time.monotonic()
        if not self._terminal:
            say(f"{label} ...")

    @property
    def seconds(self) -> float:
        """Seconds since the step began."""
        return time.monotonic() - self._started

    def update(self, detail: str) -> None:
        """Show how far the step has come; calls in quick succession are dropped."""
        now = time.monotonic()
        if now - self._drawn < (_TICK_SECONDS if self._terminal else _PLAIN_TICK_SECONDS):
            return
        self._drawn = now
        line = f"{self._label}: {self.seconds:.0f} s, {detail}"[:_WIDTH]
        if self._terminal:
            sys.stderr.write(f"\r{line:<{_WIDTH}}")
            sys.stderr.flush()
        else:
            say(line)

    def finish(self, result: str = "done") -> None:
        """Replace the line by the outcome."""
        line = f"{self._label}: {result} ({self.seconds:.0f} s)"
        say(f"\r{line:<{_WIDTH}}" if self._terminal else line)


def run(label: str, command: Sequence[str | Path], *, hint: str, log: Path | None = None) -> None:
    """Run a program behind a progress line; raise ``SetupError`` with its last lines if it fails.

    Args:
        label: what the step does, for the progress line.
        command: program and arguments.
        hint: what a person can do when it fails.
        log: file that receives everything the program wrote.
    """
    if (ending := attempt(label, command, failure="FAILED", log=log)) is not None:
        raise SetupError(f"{label}: {ending}\n\nWhat to do: {hint}")


def attempt(
    label: str, command: Sequence[str | Path], *, failure: str, log: Path | None = None
) -> str | None:
    """Run a program behind a progress line; return None if it succeeds, else how it ended."""
    output = _Output(log)
    progress = Progress(label)
    with subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as process:
        reader = threading.Thread(target=output.follow, args=(process,), daemon=True)
        reader.start()
        while reader.is_alive():
            reader.join(_TICK_SECONDS)
            progress.update(output.last)
    progress.finish(failure if process.returncode else "done")
    return output.tail() if process.returncode else None


def probe(command: Sequence[str | Path]) -> str | None:
    """Run a program quietly; return None if it succeeds, else the last line it wrote."""
    try:
        done = subprocess.run(
            [str(p) for p in command], capture_output=True, text=True, check=False
        )
    except OSError as error:
        return str(error)
    if done.returncode == 0:
        return None
    lines = (done.stderr + done.stdout).strip().splitlines()
    return lines[-1] if lines else f"exit status {done.returncode}"


class _Output:
    """The lines of a running program: the newest for the progress line, the last for an error."""

    def __init__(self, log: Path | None) -> None:
        self.last = "starting"
        self._log = log
        self._lines: deque[str] = deque(maxlen=_TAIL)

    def follow(self, process: subprocess.Popen[str]) -> None:
        """Read until the program closes its output."""
        assert process.stdout is not None
        with open(self._log or os.devnull, "a", encoding="utf-8") as log:
            for line in process.stdout:
                log.write(line)
                text = line.strip()
                if text and not text.startswith(_NOISE):
                    self.last = text
                    self._lines.append(text)

    def tail(self) -> str:
        """The last lines, indented, under the place of the full log."""
        where = f"failed; the whole output is in {self._log}" if self._log else "failed"
        return "\n    ".join([f"{where}; it ended with", *self._lines])
