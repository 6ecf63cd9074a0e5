"""What the engine is started with, and whether the bundles of a policy fit the model.

Start, reload and doctor judge a bundle by the same two functions: the policy loader judges it
alone, :func:`check_bundle` with the model.
"""

from __future__ import annotations

import logging
from argparse import Namespace
from collections.abc import Iterator

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform

from refusal_server.chat.risk.judge import check_engine
from refusal_server.policy.policy_set import PolicySet
from refusal_server.run.engine_arguments import first_line, parse_engine_args
from refusal_server.run.finding import Finding
from refusal_server.run.startup import StartupError
from refusal_server.settings import Settings
from refusal_steering.bundle import SteeringBundle
from refusal_steering.runtime.precision import slow_on_this_cpu
from refusal_steering.vllm_plugin.engine_args import apply_steering_args
from refusal_steering.vllm_plugin.protocols import ModelConfig

logger = logging.getLogger(__name__)


def plan_engine(settings: Settings, policies: PolicySet) -> Namespace:
    """vLLM's arguments for ``policies``; reads the model's configuration and no weights.

    Says so where the model's precision is slow on this machine. Raises :class:`StartupError`, or a
    ``SteeringError`` for a bundle that does not fit.
    """
    args, model_config = _configured(settings, policies)
    if (slow := _slow_precision(model_config)) is not None:
        logger.warning("%s; %s", *slow)
    return args


def model_findings(settings: Settings, policies: PolicySet) -> Iterator[Finding]:
    """What the doctor says of the model with the bundles of ``policies``; raises as above."""
    args, model_config = _configured(settings, policies)
    yield Finding("model", "ok", f"{args.model}: every bundle fits its configuration")
    if (slow := _slow_precision(model_config)) is not None:
        yield Finding("precision", "warn", *slow)


def _configured(settings: Settings, policies: PolicySet) -> tuple[Namespace, ModelConfig]:
    args = parse_engine_args(settings)
    apply_steering_args(args, policies.bundles)
    try:
        model_config = AsyncEngineArgs.from_cli_args(args).create_model_config()
    except (ValueError, OSError, RuntimeError) as error:
        raise StartupError(f"the model cannot be used: {first_line(error)}") from error
    for bundle in policies.bundles:
        check_bundle(model_config, bundle)
    return args, model_config


def _slow_precision(model_config: ModelConfig) -> tuple[str, str] | None:
    """What is slow and what to do about it, on a CPU that has no kernels for the precision."""
    dtype = model_config.dtype
    if not current_platform.is_cpu() or not slow_on_this_cpu(dtype):
        return None
    return (
        f"this CPU has no AVX-512, so that prompts in {str(dtype).removeprefix('torch.')} are read "
        "several times slower than in float32",
        "set engine.dtype to float32, which takes twice the memory",
    )


def check_bundle(model_config: ModelConfig, bundle: SteeringBundle) -> None:
    """Raise a ``SteeringError`` unless this model, as it is configured, can be steered by it."""
    bundle.check_model(model_config.get_hidden_size(), model_config.get_total_num_hidden_layers())
    check_engine(model_config, bundle)
