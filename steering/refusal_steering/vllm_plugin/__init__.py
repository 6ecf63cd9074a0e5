"""The vLLM plugin; the only part of the package that imports vLLM, and only where it must."""

from __future__ import annotations

import os

DISABLE = "REFUSAL_STEERING_DISABLE"
OPERATOR = "REFUSAL_STEERING_OPERATOR"
"""The form of the operator: ``auto`` (the default), ``torch`` or ``triton``."""


def register() -> None:
    """Entry point of ``vllm.general_plugins``: prepare the engine's processes for readings.

    Called by vLLM in every process, possibly more than once. ``REFUSAL_STEERING_DISABLE=1``
    makes it do nothing; a steered worker class then refuses to start.
    """
    if os.environ.get(DISABLE) == "1":
        return
    from refusal_steering.vllm_plugin import cache_keys, processes, results, waiting

    processes.die_with_parent()
    cache_keys.install()
    results.install()
    waiting.install()
