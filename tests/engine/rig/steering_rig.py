"""A vLLM plugin for the test rig: async scheduling on the CPU, where the platform turns it off."""

from __future__ import annotations

import os
from typing import Any


def register() -> None:
    """Keep async scheduling on when ``STEERING_RIG_ASYNC=1`` asks for it."""
    if os.environ.get("STEERING_RIG_ASYNC") != "1":
        return
    from vllm.platforms.cpu import CpuPlatform

    if getattr(CpuPlatform, "steering_rig_installed", False):
        return
    original = CpuPlatform.check_and_update_config.__func__

    def check_and_update_config(cls: Any, vllm_config: Any) -> None:
        original(cls, vllm_config)
        vllm_config.scheduler_config.async_scheduling = True

    CpuPlatform.check_and_update_config = classmethod(check_and_update_config)
    CpuPlatform.steering_rig_installed = True
