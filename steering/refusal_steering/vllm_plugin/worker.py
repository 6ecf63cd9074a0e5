"""The worker classes: vLLM's own, with steering at four touch points.

``load_model`` measures how the layers carry the residual stream and puts the operators behind them
before anything is compiled or captured;
``initialize_from_config`` makes room beside the key-value cache; ``execute_model`` learns of new
and finished requests and of their blocks; the runner's input preparation gives the
batch in its final order; ``sample_tokens`` sends the readings home. The methods named
``refusal_steering_*`` are called by ``collective_rpc``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

import torch
from safetensors.torch import load, save
from vllm.logger import init_logger
from vllm.platforms import current_platform
from vllm.v1.worker.gpu_worker import Worker

from refusal_steering.directive import EXTRA_KEY
from refusal_steering.errors import SteeringError, UnsupportedEngineError
from refusal_steering.runtime.blend import Project
from refusal_steering.runtime.forms.choice import AUTO, Form, choose
from refusal_steering.runtime.forms.trial import TrialSizes, problem_of_triton
from refusal_steering.runtime.gate.bank import GateSizes
from refusal_steering.runtime.steerer import Capacity, ResidualSteering
from refusal_steering.runtime.stream import DecoderLayer
from refusal_steering.vllm_plugin import DISABLE, OPERATOR, results
from refusal_steering.vllm_plugin.engine_args import EngineOptions
from refusal_steering.vllm_plugin.kv_blocks import full_attention_group, note_blocks
from refusal_steering.vllm_plugin.limits import check_config, check_first
from refusal_steering.vllm_plugin.processes import leave_interrupts
from refusal_steering.vllm_plugin.protocols import (
    KVCacheConfig,
    ModelRunner,
    RankAnswer,
    SchedulerOutput,
    VllmConfig,
)
from refusal_steering.vllm_plugin.recorder import Recorder
from refusal_steering.vllm_plugin.runner import (
    follow_batches,
    follow_logits,
    projector,
    watch_states,
)
from refusal_steering.vllm_plugin.seams import check_engine
from refusal_steering.vllm_plugin.stream_guard import measured_layers

# Below vLLM's own name, whose messages a worker prints.
logger = init_logger(f"vllm.{__name__}")


class SteeringMixin:
    """Steers the model of the vLLM worker class that it is mixed into."""

    started: ClassVar[bool] = False
    steering: ResidualSteering | None = None
    recorder: Recorder | None = None
    decoder_layers: Sequence[DecoderLayer] = ()
    project: Project | None = None
    vllm_config: VllmConfig
    model_runner: ModelRunner
    device: torch.device | None
    rank: int
    cache_group: int = 0

    def load_model(self, *args: object, **kwargs: object) -> object:
        """Load as vLLM does, then attach steering; any doubt stops the start."""
        leave_interrupts()
        options = EngineOptions.read(self.vllm_config.additional_config)
        if options.layers:
            _check(self.vllm_config)
        loaded: object = super().load_model(*args, **kwargs)  # type: ignore[misc]
        if options.layers:
            self.decoder_layers = measured_layers(self.model_runner, self.vllm_config)
            # Before logits are followed: what is projected later is no step of the engine's.
            self.project = projector(self.model_runner, self.vllm_config)
            self.steering = _attach(self, options)
            follow_batches(self.model_runner, self.steering)
            follow_logits(self.model_runner, self.steering)
            SteeringMixin.started = True
        return loaded

    def initialize_from_config(self, kv_cache_config: KVCacheConfig) -> None:
        """Make the key-value cache as vLLM does, and room beside it for what prompts say."""
        reader = self.steering.reader if self.steering is not None else None
        if reader is not None:
            self.cache_group, block_size = full_attention_group(kv_cache_config)
            reader.open_cells(kv_cache_config.num_blocks, block_size)
        super().initialize_from_config(kv_cache_config)  # type: ignore[misc]

    def execute_model(
        self, scheduler_output: SchedulerOutput, *args: object, **kwargs: object
    ) -> object:
        """Take note of who comes and goes, then run the step."""
        if self.steering is not None:
            _observe(self.steering, scheduler_output, self.cache_group)
        return super().execute_model(scheduler_output, *args, **kwargs)  # type: ignore[misc]

    def sample_tokens(self, *args: object, **kwargs: object) -> object:
        """Sample as vLLM does and send the step's readings along."""
        output: object = super().sample_tokens(*args, **kwargs)  # type: ignore[misc]
        collect = self.steering.read() if self.steering is not None else None
        return output if collect is None else results.hang(output, collect)

    def refusal_steering_load(self, packed: bytes) -> RankAnswer:
        """Load a bundle; the answer is this rank's acknowledgement or its error."""
        return self._acknowledge(lambda steering: steering.load(packed))

    def refusal_steering_retire(self, keep: Sequence[str]) -> RankAnswer:
        """Free the bundle slots of all other bundles that no request uses."""
        if self.steering is None:
            return self._unsteered(None)
        return self._acknowledge(lambda steering: steering.retire(set(keep)))

    def refusal_steering_acknowledge(
        self, policy_version: str, bundles: Sequence[str]
    ) -> RankAnswer:
        """Record a policy version, if every bundle that it names is here."""

        def record(steering: ResidualSteering) -> None:
            missing = set(bundles) - set(steering.bundles)
            if missing:
                raise SteeringError(f"bundles {sorted(missing)} are not loaded on this rank")
            steering.policy_version = policy_version

        if self.steering is None and not bundles:
            return self._unsteered(policy_version)
        return self._acknowledge(record)

    def refusal_steering_record(self) -> RankAnswer:
        """Start recording the residual rows of all layers; offline engines only."""

        def record(steering: ResidualSteering) -> None:
            config = self.vllm_config.model_config
            layers = dict(enumerate(self.decoder_layers))
            self.recorder = Recorder(layers, steering, config.enforce_eager)
            watch_states(self.model_runner, self.recorder.watch)

        return self._acknowledge(record)

    def refusal_steering_record_prompts(self, layers: Sequence[int]) -> RankAnswer:
        """Record whole prompts behind ``layers`` instead of last tokens; none ends it."""

        def record(_: ResidualSteering) -> None:
            if self.recorder is None:
                raise SteeringError("nothing is recorded by this engine")
            self.recorder.watch_prompts(layers)

        return self._acknowledge(record)

    def refusal_steering_recorded(self) -> bytes:
        """What was recorded since the last call, as a safetensors file; of rank 0 alone.

        All ranks have the same rows.
        """
        taken = b"" if self.recorder is None else self.recorder.take()
        return taken if self.rank == 0 else b""

    def refusal_steering_project(self, packed: bytes) -> bytes:
        """Logits of packed final states, both as safetensors files; empty where there are none."""
        states = load(packed)["states"].to(torch.device(self.device or "cpu"))
        logits = None if self.project is None else self.project(states)
        return b"" if logits is None else save({"logits": logits.float().cpu().contiguous()})

    def _unsteered(self, policy_version: str | None) -> RankAnswer:
        """The answer of an engine that was started under a policy without bundles."""
        return {
            "rank": self.rank,
            "error": None,
            "layers": [],
            "bundles": [],
            "policy_version": policy_version,
            "operator": "none",
        }

    def _acknowledge(self, action: Callable[[ResidualSteering], object]) -> RankAnswer:
        # An exception would end the engine's process: errors are answers here.
        try:
            if self.steering is None:
                raise SteeringError(
                    "this engine was started without a bundle and has no room for one; restart "
                    "the server with the policy that names it"
                )
            action(self.steering)
        except Exception as error:
            code = getattr(error, "code", "steering_error")
            return {"rank": self.rank, "error": str(error), "code": code}
        return {
            "rank": self.rank,
            "error": None,
            "layers": list(self.steering.layers),
            "bundles": list(self.steering.bundles),
            "policy_version": self.steering.policy_version,
            "operator": self.steering.form.name,
        }


def _check(config: VllmConfig) -> None:
    if os.environ.get(DISABLE) == "1":
        raise UnsupportedEngineError(
            f"{DISABLE}=1 is set, but this engine was started to be steered; unset it, or start "
            "without steering"
        )
    check_engine()
    check_config(config)
    check_first(config, SteeringMixin.started)


def _attach(worker: SteeringMixin, options: EngineOptions) -> ResidualSteering:
    config = worker.vllm_config
    text = config.model_config.hf_text_config
    layers = worker.decoder_layers
    scheduler = config.scheduler_config
    capacity = Capacity(
        bundle_slots=options.bundle_slots,
        units=options.units,
        requests=max(1024, 4 * scheduler.max_num_seqs),
        tokens=scheduler.max_num_batched_tokens,
        graph_rows=_graph_rows(config, options),
        gate=_gate_sizes(options, scheduler.max_num_seqs),
        balls=options.balls,
    )
    steered, read = set(options.layers), set(options.gate_layers)
    device = torch.device(worker.device or "cpu")
    return ResidualSteering(
        {index: layers[index] for index in sorted(steered | read)},
        hidden_size=text.hidden_size,
        num_layers=text.num_hidden_layers,
        capacity=capacity,
        device=device,
        project=worker.project,
        read_only=read - steered,
        form=_form(config, capacity, device),
    )


def _form(config: VllmConfig, capacity: Capacity, device: torch.device) -> Form:
    """The operator's form; tried before anything is compiled, captured or served."""
    sizes = TrialSizes(
        config.model_config.hf_text_config.hidden_size,
        capacity.units,
        config.model_config.dtype,
        balls=capacity.balls,
        gates=capacity.gate,
    )
    wish = os.environ.get(OPERATOR, AUTO)
    form = choose(wish, device, partial(problem_of_triton, sizes, device))
    logger.info("the steering operator's form is %s: %s", form.name, form.reason)
    return form


def _gate_sizes(options: EngineOptions, requests: int) -> GateSizes | None:
    if not options.gates:
        return None
    return GateSizes(options.gate_layers, options.gate_ends, options.gates, requests)


def _graph_rows(config: VllmConfig, options: EngineOptions) -> int:
    """Rows of the largest step that a captured graph may replay."""
    if options.graph_rows is not None:
        return options.graph_rows
    if current_platform.is_cpu() or config.model_config.enforce_eager:
        return 0
    return int(getattr(config.compilation_config, "max_cudagraph_capture_size", 0) or 0)


def _observe(
    steering: ResidualSteering, scheduler_output: SchedulerOutput, cache_group: int
) -> None:
    steering.rest()
    steering.release(scheduler_output.finished_req_ids)
    if steering.reader is not None:
        note_blocks(steering.reader.ledger, cache_group, scheduler_output)
    for request in scheduler_output.scheduled_new_reqs:
        params = request.sampling_params
        wire = (params.extra_args or {}).get(EXTRA_KEY) if params is not None else None
        if wire is not None:
            steering.admit(request.req_id, request.prompt_token_ids or (), wire)


class GPUSteeringWorker(SteeringMixin, Worker):
    """vLLM's GPU worker, steered."""
