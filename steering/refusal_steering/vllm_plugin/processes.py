"""The engine's processes: they start afresh, and end with the process that started them."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_START_METHOD = "VLLM_WORKER_MULTIPROC_METHOD"
# What vLLM calls the processes of its workers.
_WORKER = "VllmWorker-"


def start_afresh() -> None:
    """Have vLLM start processes that have no copy of this one's state, unless asked otherwise.

    On a GPU vLLM forks them. Whoever has loaded a bundle has threads for arithmetic, which a fork
    lacks and waits for without end.
    """
    os.environ.setdefault(_START_METHOD, "spawn")


def die_with_parent() -> None:
    """Have Linux kill this process when its parent dies; for child processes only.

    vLLM's processes wait for their parent through a pipe that a killed server may never close.
    """
    parent = multiprocessing.parent_process()
    if parent is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent.pid:
        # The parent was gone before the kernel knew.
        os.kill(os.getpid(), signal.SIGKILL)


def leave_interrupts() -> None:
    """Have a worker's process leave Ctrl-C, which a terminal sends to all, to those that end it.

    A worker that ended by itself would be a fatal error to an engine in the middle of a step.
    """
    if multiprocessing.current_process().name.startswith(_WORKER):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
