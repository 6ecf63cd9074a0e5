"""A process that did not start the engine learns of its death from the kernel."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence

from refusal_steering.vllm_plugin.protocols import EngineClient

logger = logging.getLogger(__name__)


def end_with(pids: Sequence[int], engine: EngineClient) -> None:
    """Take the engine for dead as soon as one of its processes has ended.

    vLLM's client looks after processes that it has started itself, and waits for ever for the
    answers of others. Once it is shut down, every request on its way ends with an error.
    """
    loop = asyncio.get_running_loop()

    def lost(handle: int) -> None:
        loop.remove_reader(handle)
        os.close(handle)
        if not engine.errored:
            logger.error("a process of the engine has ended")
            engine.engine_core.shutdown()

    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            engine.engine_core.shutdown()
            return
        loop.add_reader(handle, lost, handle)
