"""Settings under which steering would be wrong stop the start, each with its remedy."""

from __future__ import annotations

from argparse import Namespace
from types import SimpleNamespace as Config
from typing import Any

import pytest

from refusal_steering.errors import UnsupportedEngineError
from refusal_steering.vllm_plugin.engine_args import EngineOptions, apply_steering_args
from refusal_steering.vllm_plugin.limits import check_config, check_first


def config(**changes: Any) -> Config:
    """A configuration that can be steered, with dotted changes."""
    base = Config(
        speculative_config=None,
        kv_transfer_config=None,
        lora_config=None,
        parallel_config=Config(
            pipeline_parallel_size=1,
            data_parallel_size=1,
            prefill_context_parallel_size=1,
            enable_dbo=False,
            use_sequence_parallel_moe=False,
        ),
        compilation_config=Config(
            mode=Config(name="VLLM_COMPILE"), pass_config=Config(enable_sp=False)
        ),
        cache_config=Config(kv_sharing_fast_prefill=False),
        model_config=Config(
            enable_prompt_embeds=False, is_encoder_decoder=False, runner_type="generate"
        ),
    )
    for dotted, value in changes.items():
        *owners, name = dotted.split("__")
        target = base
        for owner in owners:
            target = getattr(target, owner)
        setattr(target, name, value)
    return base


def test_an_ordinary_configuration_passes() -> None:
    check_config(config())
    check_config(config(parallel_config__tensor_parallel_size=2))


@pytest.mark.parametrize(
    ("setting", "value", "word"),
    [
        ("speculative_config", object(), "speculative"),
        ("kv_transfer_config", object(), "connector"),
        ("parallel_config__pipeline_parallel_size", 2, "pipeline"),
        ("parallel_config__local_engines_only", True, "outer balancer.*router"),
        ("parallel_config__data_parallel_size", 2, "mixture of experts.*router"),
        ("parallel_config__prefill_context_parallel_size", 2, "context"),
        ("parallel_config__decode_context_parallel_size", 2, "decode context"),
        ("parallel_config__enable_expert_parallel", True, "expert parallelism.*tensor-parallel"),
        ("lora_config", object(), "LoRA.*Merge"),
        ("compilation_config__mode", Config(name="STOCK_TORCH_COMPILE"), "VLLM_COMPILE"),
        ("parallel_config__enable_dbo", True, "DBO"),
        ("parallel_config__use_sequence_parallel_moe", True, "experts"),
        ("compilation_config__pass_config__enable_sp", True, "sequence-parallelism"),
        ("cache_config__kv_sharing_fast_prefill", True, "fast prefill"),
        ("model_config__enable_prompt_embeds", True, "embeddings"),
        ("model_config__is_encoder_decoder", True, "encoder-decoder"),
        ("model_config__runner_type", "pooling", "pooling"),
    ],
)
def test_what_cannot_be_steered_is_refused(setting: str, value: Any, word: str) -> None:
    with pytest.raises(UnsupportedEngineError, match=word):
        check_config(config(**{setting: value}))


@pytest.mark.parametrize(("started", "eager"), [(False, False), (False, True), (True, True)])
def test_a_process_may_have_one_compiled_engine(started: bool, eager: bool) -> None:
    check_first(config(model_config__enforce_eager=eager), started)


def test_a_second_compiled_engine_needs_a_process_of_its_own() -> None:
    with pytest.raises(UnsupportedEngineError, match="process of its own"):
        check_first(config(model_config__enforce_eager=False), True)


def arguments(**changes: Any) -> Namespace:
    return Namespace(**{"worker_cls": "auto", "additional_config": None, **changes})


def test_one_rank_of_a_kind_is_none() -> None:
    sizes = ("pipeline", "data", "decode_context", "prefill_context")
    apply_steering_args(arguments(**{f"{size}_parallel_size": 1 for size in sizes}), [])


def test_arguments_carry_everything_that_changes_the_traced_graph() -> None:
    args = arguments(additional_config={"mine": 1})
    apply_steering_args(args, [])
    assert args.worker_cls.endswith("SteeringWorker")
    assert args.additional_config["mine"] == 1
    assert EngineOptions.read(args.additional_config) == EngineOptions.for_bundles([])


@pytest.mark.parametrize(
    "changes",
    [
        {"worker_cls": "someone.elses.Worker"},
        {"speculative_config": {"method": "ngram"}},
        {"pipeline_parallel_size": 2},
        {"decode_context_parallel_size": 2},
        {"enable_expert_parallel": True},
        {"prefill_context_parallel_size": 2},
        {"enable_lora": True},
        {"enable_dbo": True},
        {"kv_transfer_config": {"kv_connector": "x"}},
        {"enable_prompt_embeds": True},
    ],
)
def test_flags_that_contradict_steering_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedEngineError):
        apply_steering_args(arguments(**changes), [])


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"data_parallel_external_lb": True}, "external-lb"),
        ({"data_parallel_hybrid_lb": True}, "hybrid-lb"),
        ({"data_parallel_multi_port_external_lb": True}, "multi-port-external-lb"),
        ({"data_parallel_rank": 0}, "data-parallel-rank"),
        ({"data_parallel_start_rank": 0}, "start-rank"),
        ({"data_parallel_size_local": 1}, "size-local"),
        ({"data_parallel_address": "10.0.0.1"}, "address"),
        ({"enable_elastic_ep": True}, "elastic-ep"),
        ({"data_parallel_backend": "ray"}, "backend ray"),
        ({"nnodes": 2, "data_parallel_size": 2}, "nnodes"),
    ],
)
def test_engines_of_others_are_refused_with_the_remedy(changes: dict[str, Any], flag: str) -> None:
    with pytest.raises(UnsupportedEngineError, match=f"{flag}.*--data-parallel-size alone.*router"):
        apply_steering_args(arguments(**changes), [])


def test_engines_of_this_server_are_taken() -> None:
    args = arguments(data_parallel_size=2, data_parallel_backend="mp", nnodes=1)
    apply_steering_args(args, [])
    assert args.worker_cls.endswith("SteeringWorker")
