"""The shapes of vLLM's objects that the plugin uses, and of what a rank answers.

vLLM's own classes are untyped here, because following them costs a type checker minutes. Each
protocol names only what is used; ``tests/contract`` holds them against the installed vLLM.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from typing import Any, NotRequired, Protocol, Self, TypedDict

import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class RankAnswer(TypedDict):
    """What one rank answers to a remote call: ``error`` and its ``code``, or its state."""

    rank: int
    error: str | None
    code: NotRequired[str]
    layers: NotRequired[list[int]]
    bundles: NotRequired[list[str]]
    policy_version: NotRequired[str | None]
    operator: NotRequired[str]


class SamplingParams(Protocol):
    """A request's sampling parameters; ``extra_args`` is the one field that plugins may use."""

    n: int
    extra_args: dict[str, Any] | None

    def clone(self) -> Self:
        """A copy that may be changed."""


class HashedRequest(Protocol):
    """A request whose key-value blocks the scheduler hashes."""

    request_id: str
    num_prompt_tokens: int
    sampling_params: SamplingParams | None


class NewRequest(Protocol):
    """A request that a step schedules for the first time, as the worker is told of it."""

    req_id: str
    prompt_token_ids: list[int] | None
    sampling_params: SamplingParams | None
    block_ids: tuple[list[int], ...]
    num_computed_tokens: int


class CachedRequests(Protocol):
    """The requests of a step that the worker knows, in one order.

    ``new_block_ids`` are by cache group; a request of ``resumed_req_ids`` gets all its blocks anew.
    """

    req_ids: Sequence[str]
    resumed_req_ids: Collection[str]
    new_block_ids: Sequence[tuple[list[int], ...] | None]
    num_computed_tokens: Sequence[int]


class SchedulerOutput(Protocol):
    """Who takes part in a step, and who has gone since the last one."""

    scheduled_new_reqs: Sequence[NewRequest]
    scheduled_cached_reqs: CachedRequests
    finished_req_ids: Collection[str]


class KVCacheGroup(Protocol):
    """Layers that share their blocks."""

    kv_cache_spec: Any


class KVCacheConfig(Protocol):
    """The key-value cache of one worker."""

    num_blocks: int
    kv_cache_groups: Sequence[KVCacheGroup]


class EngineCoreOutput(Protocol):
    """What one step has made for one request."""

    request_id: str
    new_token_ids: list[int]
    kv_transfer_params: dict[str, Any] | None


class EngineCoreOutputs(Protocol):
    """One step's outputs for one client of the engine."""

    outputs: Sequence[EngineCoreOutput]


class BatchV1(Protocol):
    """The batch of vLLM's model runner V1; the counts are [max_num_seqs], in batch order."""

    num_reqs: int
    req_ids: list[str]
    num_computed_tokens_cpu: NDArray[Any]


class BatchV2(Protocol):
    """The batch of vLLM's model runner V2; the counts are [num_reqs], in batch order."""

    num_reqs: int
    req_ids: list[str]
    num_computed_tokens_np: NDArray[Any]
    num_scheduled_tokens: NDArray[Any]


class LogitsModel(Protocol):
    """The model, as far as its output layer goes."""

    compute_logits: Callable[..., Tensor | None]


class ModelRunner(Protocol):
    """What both runners share."""

    model: LogitsModel
    _dummy_run: Callable[..., object]

    def get_model(self) -> nn.Module:
        """The model, without the wrapper that captured graphs put around it."""


class RunnerV1(Protocol):
    """Runner V1: it prepares :attr:`input_batch` in place."""

    input_batch: BatchV1
    _prepare_inputs: Callable[..., object]


class RunnerV2(Protocol):
    """Runner V2: it returns the batch that it has prepared."""

    prepare_inputs: Callable[..., BatchV2]


class TextConfig(Protocol):
    """The configuration of the language model inside a model."""

    hidden_size: int
    num_hidden_layers: int


class ModelConfig(Protocol):
    """The model as it is served."""

    hf_text_config: TextConfig
    dtype: torch.dtype
    enforce_eager: bool
    is_encoder_decoder: bool
    runner_type: str
    max_model_len: int
    max_logprobs: int
    logprobs_mode: str

    @property
    def supports_multimodal_inputs(self) -> bool:
        """Whether it takes anything besides text."""

    def get_hidden_size(self) -> int:
        """The residual stream's width."""

    def get_total_num_hidden_layers(self) -> int:
        """How many decoder layers it has, over all ranks."""


class SchedulerConfig(Protocol):
    """How large a step may be."""

    max_num_seqs: int
    max_num_batched_tokens: int


class ParallelConfig(Protocol):
    """Over how many processes the model is spread."""

    world_size: int
    tensor_parallel_size: int
    pipeline_parallel_size: int
    data_parallel_size: int


class CompilationConfig(Protocol):
    """How the model is compiled."""

    mode: object
    pass_config: object
    static_forward_context: Mapping[str, object]


class VllmConfig(Protocol):
    """The finished configuration of one engine."""

    model_config: ModelConfig
    scheduler_config: SchedulerConfig
    parallel_config: ParallelConfig
    compilation_config: CompilationConfig
    cache_config: object
    speculative_config: object | None
    kv_transfer_config: object | None
    additional_config: object


class Logprob(Protocol):
    """One token's log-probability."""

    logprob: float


class CompletionOutput(Protocol):
    """One choice of an answer; ``logprobs`` has an entry for each of its tokens."""

    logprobs: Sequence[Mapping[int, Logprob]] | None


class RequestOutput(Protocol):
    """What ``generate`` yields."""

    outputs: Sequence[CompletionOutput]


class RequestState(Protocol):
    """What the output processor knows of one sequence; ``request_index`` is its choice's."""

    external_req_id: str
    request_index: int


class OutputProcessor(Protocol):
    """Turns outputs of the engine's process into those of ``generate``."""

    request_states: Mapping[str, RequestState]
    process_outputs: Callable[..., object]


class EngineCores(Protocol):
    """The connection to the engines' processes: one, or one for each data-parallel rank."""

    def shutdown(self) -> None:
        """Let go of them; requests on their way end with an error."""

    async def call_utility_all_async(
        self, method: str, *args: object
    ) -> Sequence[Sequence[RankAnswer]]:
        """Call a method of every engine; what each has returned."""


class EngineClient(Protocol):
    """``AsyncLLM``: the engine, seen from the API process."""

    engine_core: EngineCores
    vllm_config: VllmConfig
    model_config: ModelConfig
    output_processor: OutputProcessor
    generate: Callable[..., AsyncGenerator[RequestOutput, None]]

    async def abort(self, request_id: str) -> None:
        """Forget a request, also one that never reached the engine's process."""

    @property
    def errored(self) -> bool:
        """Whether the engine has died."""

    def get_tokenizer(self) -> Any:
        """The served model's tokenizer."""

    async def get_supported_tasks(self) -> tuple[str, ...]:
        """What the model can be asked for."""

    async def collective_rpc(
        self, method: str, timeout: float | None = None, args: tuple[object, ...] = ()
    ) -> Sequence[RankAnswer]:
        """Call a method of every rank's worker, between two steps."""


class EngineCore(Protocol):
    """The connection to the engine's process."""

    def shutdown(self) -> None:
        """End that process."""


class OfflineCore(Protocol):
    """The engine inside an offline engine."""

    engine_core: EngineCore


class OfflineOutput(Protocol):
    """A finished answer of an offline engine."""

    prompt_token_ids: list[int] | None
    outputs: Sequence[Any]
    kv_transfer_params: dict[str, Any] | None


class OfflineEngine(Protocol):
    """``vllm.LLM``: an engine without a server."""

    llm_engine: OfflineCore

    def get_tokenizer(self) -> Any:
        """The tokenizer that its prompts are made with."""

    def chat(
        self,
        messages: list[Any],
        sampling_params: list[Any],
        *,
        use_tqdm: bool,
        **template: Any,
    ) -> Sequence[OfflineOutput]:
        """Answer conversations, a batch of them at a time."""

    def collective_rpc(
        self, method: str, timeout: float | None = None, args: tuple[object, ...] = ()
    ) -> list[Any]:
        """Call a method of every rank's worker."""
