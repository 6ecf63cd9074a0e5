"""The way of a reading from the worker to the API process.

The worker hangs its readings on the step's ``ModelRunnerOutput``; the scheduler moves each onto
the ``EngineCoreOutput`` of its request, in the one free-form field that vLLM carries; the
gateway takes it off again. Readings travel with the tokens that they belong to, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from functools import wraps
from typing import Any

from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.outputs import EMPTY_MODEL_RUNNER_OUTPUT, AsyncModelRunnerOutput

from refusal_steering.directive import EXTRA_KEY
from refusal_steering.vllm_plugin.protocols import (
    EngineCoreOutput,
    EngineCoreOutputs,
    SchedulerOutput,
)

_ATTRIBUTE = "refusal_steering_readings"
_MARK = "_refusal_steering"

Readings = Mapping[str, list[Any]]
"""Readings in wire form, by request."""


def hang(output: object, collect: Callable[[], Readings]) -> object:
    """Attach what ``collect`` returns to a runner's output, now or when that is awaited."""
    if isinstance(output, AsyncModelRunnerOutput):
        return _AwaitedReadings(output, collect)
    if output is None:
        return None
    if output is EMPTY_MODEL_RUNNER_OUTPUT:
        output = copy(output)
    setattr(output, _ATTRIBUTE, collect())
    return output


class _AwaitedReadings(AsyncModelRunnerOutput):
    """An asynchronous output whose readings are copied to the host meanwhile."""

    def __init__(self, inner: AsyncModelRunnerOutput, collect: Callable[[], Readings]) -> None:
        self._inner = inner
        self._collect = collect

    def get_output(self) -> object:
        return hang(self._inner.get_output(), self._collect)


def install() -> None:
    """Make every scheduler pass readings on; idempotent."""
    original = Scheduler.update_from_output
    if getattr(original, _MARK, False):
        return

    @wraps(original)
    def update_from_output(
        self: object,
        scheduler_output: SchedulerOutput,
        model_runner_output: object,
        *args: object,
        **kwargs: object,
    ) -> Mapping[int, EngineCoreOutputs]:
        outputs: Mapping[int, EngineCoreOutputs] = original(
            self, scheduler_output, model_runner_output, *args, **kwargs
        )
        readings: Readings | None = getattr(model_runner_output, _ATTRIBUTE, None)
        if readings:
            for of_client in outputs.values():
                for output in of_client.outputs:
                    reading = readings.get(output.request_id)
                    if reading is not None:
                        output.kv_transfer_params = {
                            **(output.kv_transfer_params or {}),
                            EXTRA_KEY: reading,
                        }
        return outputs

    setattr(update_from_output, _MARK, True)
    Scheduler.update_from_output = update_from_output


def take(output: EngineCoreOutput) -> list[Any] | None:
    """Remove and return the wire reading of one ``EngineCoreOutput``."""
    fields = output.kv_transfer_params
    if not fields or EXTRA_KEY not in fields:
        return None
    reading: list[Any] = fields[EXTRA_KEY]
    rest = None
    if len(fields) > 1:
        rest = {name: value for name, value in fields.items() if name != EXTRA_KEY}
    output.kv_transfer_params = rest
    return reading
