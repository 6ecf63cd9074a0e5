"""vLLM's CPU worker, steered; apart because its module binds CPU resources when imported."""

from __future__ import annotations

from vllm.v1.worker.cpu_worker import CPUWorker

from refusal_steering.vllm_plugin.worker import SteeringMixin


class CPUSteeringWorker(SteeringMixin, CPUWorker):
    """vLLM's CPU worker, steered."""
