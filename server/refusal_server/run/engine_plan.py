"""What the engine is started with, and whether the bundles of a policy fit the model.

Start, reload and doctor judge a bundle by the same two functions: the policy loader judges it
alone, :func:`check_bundle` with the model.
"""

from __future__ import annotations

from argparse import Namespace

from vllm.engine.arg_utils import AsyncEngineArgs

from refusal_server.chat.risk.judge import check_engine
from refusal_server.policy.policy_set import PolicySet
from refusal_server.run.engine_arguments import first_line, parse_engine_args
from refusal_server.run.startup import StartupError
from refusal_server.settings import Settings
from refusal_steering.bundle import SteeringBundle
from refusal_steering.vllm_plugin.engine_args import apply_steering_args
from refusal_steering.vllm_plugin.protocols import ModelConfig


def plan_engine(settings: Settings, policies: PolicySet) -> Namespace:
    """vLLM's arguments for ``policies``; reads the model's configuration and no weights.

    Raises :class:`StartupError`, or a ``SteeringError`` for a bundle that does not fit.
    """
    args = parse_engine_args(settings)
    apply_steering_args(args, policies.bundles)
    try:
        model_config = AsyncEngineArgs.from_cli_args(args).create_model_config()
    except (ValueError, OSError, RuntimeError) as error:
        raise StartupError(f"the model cannot be used: {first_line(error)}") from error
    for bundle in policies.bundles:
        check_bundle(model_config, bundle)
    return args


def check_bundle(model_config: ModelConfig, bundle: SteeringBundle) -> None:
    """Raise a ``SteeringError`` unless this model, as it is configured, can be steered by it."""
    bundle.check_model(model_config.get_hidden_size(), model_config.get_total_num_hidden_layers())
    check_engine(model_config, bundle)
