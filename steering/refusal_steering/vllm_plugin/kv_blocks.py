"""Where vLLM keeps a request's tokens: its key-value cache's blocks, as the scheduler gives them.

Both runners are told the same: all blocks when a request begins or resumes, more as it grows.
"""

from __future__ import annotations

from vllm.v1.kv_cache_interface import FullAttentionSpec

from refusal_steering.gate.whole_prompts import no_whole_prompts
from refusal_steering.runtime.gate.blocks import BlockLedger
from refusal_steering.vllm_plugin.protocols import KVCacheConfig, SchedulerOutput


def full_attention_group(kv_cache_config: KVCacheConfig) -> tuple[int, int]:
    """Number and block size of the cache group that holds every token of a request.

    Raises :class:`UnsupportedModelError` for a model that keeps a window or a state only: a prefix
    hit there does not say where the prompt's earlier tokens are.
    """
    for number, group in enumerate(kv_cache_config.kv_cache_groups):
        spec = group.kv_cache_spec
        specs = getattr(spec, "kv_cache_specs", None)
        every = list(specs.values()) if specs else [spec]
        on_device = not getattr(group, "host_resident", False)
        if on_device and all(isinstance(one, FullAttentionSpec) for one in every):
            return number, int(spec.block_size)
    raise no_whole_prompts()


def note_blocks(ledger: BlockLedger, group: int, scheduler_output: SchedulerOutput) -> None:
    """Write down what the scheduler has given to whom in this step."""
    ledger.forget(scheduler_output.finished_req_ids)
    for request in scheduler_output.scheduled_new_reqs:
        ledger.start(request.req_id, request.block_ids[group], request.num_computed_tokens)
    cached = scheduler_output.scheduled_cached_reqs
    for place, request_id in enumerate(cached.req_ids):
        given = cached.new_block_ids[place]
        blocks = [] if given is None else given[group]
        if request_id in cached.resumed_req_ids:
            ledger.start(request_id, blocks, cached.num_computed_tokens[place])
        elif blocks:
            ledger.extend(request_id, blocks)
    for source, target in getattr(scheduler_output, "kv_cache_block_copies", None) or ():
        ledger.copy(source, target)
