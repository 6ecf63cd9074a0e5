"""Prefix cache: keys for what a block's tokens and their order do not say.

Blocks that a steered request writes differently get a key of their own.

Before the last prompt token a steered request's key-value entries equal everyone's and stay
shared. The block that holds the last prompt token, and all after it, also hash the directive and
the prompt length: the same prompt under the same policy finds them, nobody else does, and the
next turn of a chat recomputes what was steered as generation.

What gates read of a prompt stands beside its blocks, so a block counts as found only if all gates
of today had been loaded when it was computed: the first block, and through the chain of hashes
every block after it, also hashes the reading epoch that the gateway stamps on every request.
"""

from __future__ import annotations

import sys
from functools import wraps
from typing import Any

from vllm.v1.core import block_pool, kv_cache_utils

from refusal_steering.directive import EPOCH_KEY, EXTRA_KEY, Directive
from refusal_steering.vllm_plugin.protocols import HashedRequest

_MARK = "_refusal_steering"


def install() -> None:
    """Wrap vLLM's function wherever it is already known by name; idempotent."""
    original = kv_cache_utils.generate_block_hash_extra_keys
    if getattr(original, _MARK, False):
        return

    @wraps(original)
    def generate_block_hash_extra_keys(
        request: HashedRequest,
        start_token_idx: int,
        end_token_idx: int,
        *args: object,
        **kwargs: object,
    ) -> tuple[tuple[object, ...] | None, int]:
        keys, next_media = original(request, start_token_idx, end_token_idx, *args, **kwargs)
        if start_token_idx == 0:
            epoch = _extra(request, EPOCH_KEY)
            if epoch is not None:
                keys = (*(keys or ()), (EPOCH_KEY, str(epoch)))
        if end_token_idx >= request.num_prompt_tokens:
            own = _steering_key(request)
            if own is not None:
                keys = (*(keys or ()), (EXTRA_KEY, own))
        return keys, next_media

    setattr(generate_block_hash_extra_keys, _MARK, True)
    kv_cache_utils.generate_block_hash_extra_keys = generate_block_hash_extra_keys
    block_pool.generate_block_hash_extra_keys = generate_block_hash_extra_keys
    offload = sys.modules.get("vllm.v1.simple_kv_offload.manager")
    if offload is not None:
        offload.generate_block_hash_extra_keys = (  # type: ignore[attr-defined]
            generate_block_hash_extra_keys
        )


def _extra(request: HashedRequest, key: str) -> Any:
    params = request.sampling_params
    return (params.extra_args or {}).get(key) if params is not None else None


def _steering_key(request: HashedRequest) -> str | None:
    wire = _extra(request, EXTRA_KEY)
    if wire is None:
        return None
    try:
        directive = Directive.from_wire(wire)
        key = directive.cache_key(request.num_prompt_tokens)
    except Exception:
        # The worker gives this request up; whatever it writes must be found by nobody.
        return f"unreadable/{request.request_id}"
    return key if directive.writes_cache else None
