"""One media worker, as the server sees it."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import refusal_server
from refusal_server.media.worker import protocol
from refusal_server.media.worker.protocol import Job, Limits, Reading

_PIPE_BYTES = 2**20
_GRACE_SECONDS = 5.0
# One memory arena: each one more would take its own 64 MB of the address space.
_ENVIRONMENT = {"MALLOC_ARENA_MAX": "1", "OPENBLAS_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}
_KEPT = ("LD_LIBRARY_PATH", "PYTHONPATH")


class WorkerGoneError(Exception):
    """The worker has ended before it answered."""


class WorkerProcess:
    """A child process that reads one medium after the other; for one thread at a time.

    It inherits neither the server's environment nor its descriptors, and dies with the thread
    that has started it.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._longest = 2 * limits.read_seconds + _GRACE_SECONDS
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-s", "-m", "refusal_server.media.worker"),
                *(limits.to_json(), str(os.getpid())),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=_environment(),
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._jobs = self._process.stdin
        self._readings = self._process.stdout
        for pipe in (self._jobs, self._readings):
            with suppress(OSError):
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def read(self, job: Job) -> Reading:
        """Have one medium read; raises :class:`WorkerGoneError`, then the worker is of no use."""
        # The worker keeps time for its children; this is for a worker that keeps none.
        alarm = threading.Timer(self._longest, self.kill)
        alarm.start()
        try:
            protocol.send_job(self._jobs.fileno(), job)
            reading = protocol.receive_reading(self._readings.fileno(), self._limits)
        except OSError as error:
            # Its pipes may be closed some time before it counts as ended.
            self.kill()
            self._process.wait()
            raise WorkerGoneError(str(error)) from error
        finally:
            alarm.cancel()
        if reading is None:
            raise WorkerGoneError(f"it ended with status {self._process.wait()}")
        return reading

    def kill(self) -> None:
        """End it and what it is reading, at once."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill it, and free what the server holds of it."""
        self.kill()
        self._process.wait()
        self._jobs.close()
        self._readings.close()


def _environment() -> dict[str, str]:
    """Nothing of the server's but where libraries are; its keys are none of a worker's business."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    ours = str(Path(refusal_server.__file__).parent.parent)
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, (ours, kept.get("PYTHONPATH"))))
    return {**_ENVIRONMENT, **kept}
