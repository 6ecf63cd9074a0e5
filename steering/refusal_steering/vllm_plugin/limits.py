"""What an engine's configuration must not ask for while it is steered.

Each entry is a setting under which token rows, positions or cached blocks are no longer what the
steering operator takes them for. The engine refuses to start rather than steer wrongly.
"""

from __future__ import annotations

from collections.abc import Callable

from refusal_steering.errors import UnsupportedEngineError
from refusal_steering.vllm_plugin.protocols import VllmConfig

_Check = tuple[str, Callable[[VllmConfig], object], str]

_CHECKS: tuple[_Check, ...] = (
    (
        "speculative decoding",
        lambda c: c.speculative_config is not None,
        "drop --speculative-config",
    ),
    (
        "pipeline parallelism",
        lambda c: c.parallel_config.pipeline_parallel_size > 1,
        "use --tensor-parallel-size instead",
    ),
    (
        # Where there is one in a worker's configuration: ranks of dense models are engines of one.
        "data parallelism of a mixture of experts",
        lambda c: c.parallel_config.data_parallel_size > 1,
        "start replicas behind a router: its ranks run idle steps together, which was never tried",
    ),
    (
        "data parallelism with an outer balancer",
        lambda c: getattr(c.parallel_config, "local_engines_only", False),
        "start replicas behind a router",
    ),
    (
        "prefill context parallelism",
        lambda c: getattr(c.parallel_config, "prefill_context_parallel_size", 1) > 1,
        "set it to 1",
    ),
    (
        "decode context parallelism",
        lambda c: getattr(c.parallel_config, "decode_context_parallel_size", 1) > 1,
        "set --decode-context-parallel-size to 1: it was never run, and it spreads the tokens of a "
        "block over ranks",
    ),
    (
        "expert parallelism",
        lambda c: getattr(c.parallel_config, "enable_expert_parallel", False),
        "drop --enable-expert-parallel and use --tensor-parallel-size: it was never run",
    ),
    (
        "LoRA adapters",
        lambda c: getattr(c, "lora_config", None) is not None,
        "drop --enable-lora: a bundle is right for the weights that it was calibrated on. Merge "
        "the adapter into the model and build a bundle for that",
    ),
    (
        "a model that torch.compile compiles as a whole",
        lambda c: getattr(c.compilation_config.mode, "name", "") == "STOCK_TORCH_COMPILE",
        "use compilation mode VLLM_COMPILE, which is the default, or --enforce-eager",
    ),
    (
        "batch-sharded sampling",
        lambda c: getattr(c.parallel_config, "enable_batch_sharded_sampling", False),
        "turn it off: a rank would see some requests' logits only",
    ),
    (
        "micro-batching (DBO)",
        lambda c: (
            getattr(c.parallel_config, "enable_dbo", False)
            or getattr(c.parallel_config, "use_ubatching", False)
        ),
        "drop --enable-dbo",
    ),
    (
        "sequence-parallel experts",
        lambda c: getattr(c.parallel_config, "use_sequence_parallel_moe", False),
        "turn expert parallelism with sequence parallelism off",
    ),
    (
        "the sequence-parallelism pass",
        lambda c: getattr(c.compilation_config.pass_config, "enable_sp", False),
        "turn enable_sp off",
    ),
    (
        "fast prefill with shared key-value layers",
        lambda c: getattr(c.cache_config, "kv_sharing_fast_prefill", False),
        "drop --kv-sharing-fast-prefill",
    ),
    (
        "an external key-value connector",
        lambda c: c.kv_transfer_config is not None,
        "drop --kv-transfer-config: connectors hash tokens themselves and would share steered keys",
    ),
    (
        "prompt embeddings",
        lambda c: getattr(c.model_config, "enable_prompt_embeds", False),
        "drop --enable-prompt-embeds",
    ),
    (
        "an encoder-decoder model",
        lambda c: c.model_config.is_encoder_decoder,
        "serve a decoder-only model",
    ),
    (
        "a pooling model",
        lambda c: c.model_config.runner_type != "generate",
        "serve a generative model",
    ),
)


def check_first(config: VllmConfig, started: bool) -> None:
    """Raise :class:`UnsupportedEngineError` for a process's second compiled engine.

    A compiled graph knows its engine by number, and one from the compile cache by the first's.
    """
    if started and not config.model_config.enforce_eager:
        raise UnsupportedEngineError(
            "this process has started a steered engine already, and steering does not support a "
            "second one that is compiled: start each in a process of its own (leave "
            "VLLM_ENABLE_V1_MULTIPROCESSING at 1), or set --enforce-eager"
        )


def check_config(config: VllmConfig) -> None:
    """Raise :class:`UnsupportedEngineError` naming the first setting that cannot be steered."""
    for name, applies, remedy in _CHECKS:
        if applies(config):
            raise UnsupportedEngineError(f"steering does not support {name}: {remedy}")
