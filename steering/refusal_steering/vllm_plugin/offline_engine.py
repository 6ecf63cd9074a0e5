"""The offline engine of a calibration, for the time that it is needed."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from refusal_steering.engine import EngineFacts
from refusal_steering.errors import UnsupportedEngineError
from refusal_steering.vllm_plugin.engine_args import EngineOptions
from refusal_steering.vllm_plugin.offline import OfflineModel, Template

_CPU_CACHE = 2 << 30
# One bundle is in work; the slots of those before it are free once the engine has let go of them.
_SLOTS = 4
# Conversations that are on their way at once: what is kept of them fits into memory.
_BATCH = {True: 16, False: 128}


@contextmanager
def offline_model(
    facts: EngineFacts,
    template: Template,
    engine: Mapping[str, Any],
    *,
    steered: bool,
    gate_layers: tuple[int, ...] = (),
) -> Iterator[OfflineModel]:
    """An engine on the model of ``facts`` for the time of the block.

    ``engine`` are further arguments of ``vllm.LLM``. An engine that is to be ``steered`` has room
    for bundles on every layer, and for gates that read ``gate_layers``. Raises
    :class:`UnsupportedEngineError` where vLLM does not start.
    """
    try:
        llm, batch = _started(facts, _options(facts, steered, gate_layers), engine)
    # Too little memory, weights that do not fit: it raises what it likes, after lines of its own.
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UnsupportedEngineError(f"vLLM cannot run {facts.model}: {reason}") from error
    try:
        yield OfflineModel(llm, facts, template, batch)
    finally:
        llm.llm_engine.engine_core.shutdown()


def _options(facts: EngineFacts, steered: bool, gate_layers: tuple[int, ...]) -> EngineOptions:
    return EngineOptions(
        layers=tuple(range(facts.identity.num_layers)) if steered else (0,),
        bundle_slots=_SLOTS,
        units=128 if steered else 0,
        balls=steered,
        gate_layers=gate_layers,
        gate_ends=gate_layers[-1:],
        gates=_SLOTS if gate_layers else 0,
    )


def _started(
    facts: EngineFacts, options: EngineOptions, engine: Mapping[str, Any]
) -> tuple[Any, int]:
    from vllm import LLM
    from vllm.platforms import current_platform

    # On a CPU vLLM would claim nearly all of the machine's memory, which other programs use too.
    cpu = current_platform.is_cpu()
    modest = {"kv_cache_memory_bytes": _CPU_CACHE} if cpu else {}
    arguments = {**modest, **engine, **options.to_engine(), "enforce_eager": True}
    llm = LLM(model=facts.model, **arguments)
    # It warns of every single recording that its second choice of a decoder reads it.
    logging.getLogger("vllm.multimodal.media.audio").setLevel(logging.ERROR)
    return llm, _BATCH[cpu]
