"""What is hung on vLLM's model runner, V1 and V2: each step is planned, and its logits blended."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any, cast

import torch
from numpy.typing import NDArray

from refusal_steering.prototypes import logits_are_linear
from refusal_steering.runtime.blend import Project
from refusal_steering.runtime.steerer import ResidualSteering
from refusal_steering.vllm_plugin.protocols import (
    BatchV2,
    ModelRunner,
    RunnerV1,
    RunnerV2,
    SchedulerOutput,
    VllmConfig,
)


def follow_batches(runner: ModelRunner, steering: ResidualSteering) -> None:
    """Plan each step right after the runner has put its batch in order."""
    if hasattr(runner, "_prepare_inputs"):
        _follow_v1(cast(RunnerV1, runner), steering)
    else:
        _follow_v2(cast(RunnerV2, runner), steering)
    dummy_run = runner._dummy_run

    @wraps(dummy_run)
    def _dummy_run(*args: object, **kwargs: object) -> object:
        steering.rest()
        return dummy_run(*args, **kwargs)

    runner._dummy_run = _dummy_run


def follow_logits(runner: ModelRunner, steering: ResidualSteering) -> None:
    """Blend what the model is about to sample from; both runners ask for logits this way."""
    compute_logits = runner.model.compute_logits

    @wraps(compute_logits)
    def _compute_logits(*args: object, **kwargs: object) -> torch.Tensor | None:
        logits = compute_logits(*args, **kwargs)
        if logits is not None:
            steering.blend(logits)
        return logits

    runner.model.compute_logits = _compute_logits


def watch_states(runner: ModelRunner, watch: Callable[[torch.Tensor], None]) -> None:
    """Show ``watch`` the final states [R, H] of every step before their logits are computed."""
    compute_logits = runner.model.compute_logits

    @wraps(compute_logits)
    def _compute_logits(
        states: torch.Tensor, *args: object, **kwargs: object
    ) -> torch.Tensor | None:
        watch(states)
        return compute_logits(states, *args, **kwargs)

    runner.model.compute_logits = _compute_logits


def dummy_step(runner: ModelRunner, rows: int) -> object:
    """Run a step of ``rows`` made-up tokens without a key-value cache; its states [T, H].

    The run that measures memory does the same.
    """
    # V2 must be told that there is no cache.
    named = {"skip_attn": True} if "skip_attn" in signature(runner._dummy_run).parameters else {}
    states = runner._dummy_run(rows, is_profile=True, **named)
    return states[0] if isinstance(states, tuple) else states


def projector(runner: ModelRunner, config: VllmConfig) -> Project | None:
    """The model's output layer; ``None`` where logits are capped after it, so not linear."""
    if not logits_are_linear(config.model_config.hf_text_config):
        return None
    compute_logits = runner.model.compute_logits
    dtype = config.model_config.dtype

    @torch.inference_mode()
    def project(states: torch.Tensor) -> torch.Tensor | None:
        return compute_logits(states.to(dtype))

    return project


def _follow_v1(runner: RunnerV1, steering: ResidualSteering) -> None:
    prepare = runner._prepare_inputs

    @wraps(prepare)
    def _prepare_inputs(
        scheduler_output: SchedulerOutput,
        num_scheduled: NDArray[Any],
        *args: object,
        **kwargs: object,
    ) -> object:
        prepared = prepare(scheduler_output, num_scheduled, *args, **kwargs)
        batch = runner.input_batch
        count = batch.num_reqs
        steering.begin(
            batch.req_ids[:count],
            batch.num_computed_tokens_cpu[:count],
            num_scheduled[:count],
        )
        return prepared

    runner._prepare_inputs = _prepare_inputs


def _follow_v2(runner: RunnerV2, steering: ResidualSteering) -> None:
    prepare = runner.prepare_inputs

    @wraps(prepare)
    def prepare_inputs(*args: object, **kwargs: object) -> BatchV2:
        batch = prepare(*args, **kwargs)
        count = batch.num_reqs
        steering.begin(
            batch.req_ids[:count],
            batch.num_computed_tokens_np[:count],
            batch.num_scheduled_tokens[:count],
        )
        return batch

    runner.prepare_inputs = prepare_inputs
