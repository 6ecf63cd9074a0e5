"""On a CPU the engine's processes sleep while they wait for each other; they never spin on a yield.

The engine's core and its worker poll a buffer in shared memory with ``sched_yield``. On a CPU the
server's own process shares their cores, and since Linux's commit 79104becf42b ("Forfeit vruntime on
yield": 6.18, and long-term kernels from 6.12.63) such a loop keeps it from running for seconds:
``/live`` was answered when the engine had no more to do. On a GPU nothing is changed.
"""

from __future__ import annotations

import time

SHORTEST_SECONDS = 1e-6
"""Linux sleeps about 55 microseconds for this: its timer slack."""


def install() -> None:
    """Replace the yield of vLLM's message queues by the shortest sleep, on a CPU only."""
    from vllm.distributed.device_communicators import shm_broadcast
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        shm_broadcast.sched_yield = rest


def rest() -> None:
    """Leave the core for the shortest time that the system can."""
    time.sleep(SHORTEST_SECONDS)
