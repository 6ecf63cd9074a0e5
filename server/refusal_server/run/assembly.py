"""Puts the service together around a running engine."""

from __future__ import annotations

import time
from argparse import Namespace
from typing import Any

import prometheus_client
from starlette.datastructures import State
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.v1.metrics.prometheus import get_prometheus_registry
from vllm.version import __version__ as vllm_version

from refusal_server.access.budget import Budgets
from refusal_server.access.denials import Denials
from refusal_server.access.key_store import KeyStore
from refusal_server.chat.internal import InternalChat
from refusal_server.chat.moderation import ModerationService
from refusal_server.chat.proof import prove_answer
from refusal_server.chat.request import ChatIntake
from refusal_server.chat.risk.judge import check_engine
from refusal_server.chat.service import ChatService
from refusal_server.detection.build import build_sampled
from refusal_server.events import EventSink, NoEvents
from refusal_server.http.health import Health
from refusal_server.http.json_body import JsonLimits
from refusal_server.http.service import ServedModel, Service
from refusal_server.media.guard import MediaGuard
from refusal_server.media.worker_pool import WorkerPool
from refusal_server.policy.policy_set import PolicySet
from refusal_server.policy.policy_store import PolicyStore
from refusal_server.run.engine_arguments import first_line
from refusal_server.run.startup import StartupError
from refusal_server.settings import Settings
from refusal_server.telemetry.audit.build import build_audit
from refusal_server.telemetry.metrics import Metrics
from refusal_server.telemetry.observer import Observer
from refusal_server.telemetry.ops_metrics import OpsMetrics
from refusal_server.telemetry.recent import RecentRequests
from refusal_steering.bundle import SteeringBundle
from refusal_steering.vllm_plugin.canary import run_canary
from refusal_steering.vllm_plugin.gateway import SteeringGateway


def check_model(args: Namespace, policies: PolicySet) -> None:
    """Read the model's configuration and hold the bundles against it, before any weight loads."""
    try:
        config = AsyncEngineArgs.from_cli_args(args).create_model_config()
    except (ValueError, OSError, RuntimeError) as error:
        raise StartupError(f"the model cannot be used: {first_line(error)}") from error
    layers = config.get_total_num_hidden_layers()
    for bundle in policies.bundles:
        bundle.check_model(config.get_hidden_size(), layers)


async def assemble(
    engine: Any, args: Namespace, settings: Settings, policies: PolicySet, media: WorkerPool
) -> Service:
    """Bring the policy into force on every rank, start ``media`` and build what the routes need.

    Raises a ``SteeringError`` when a rank does not follow or the canary does not sing.
    """
    gateway = SteeringGateway(engine)
    model = _served_model(engine, args)
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    metrics = Metrics(model.names[0])

    async def check(bundle: SteeringBundle) -> None:
        check_engine(engine.model_config, bundle)
        await run_canary(engine, bundle)

    def approve(policies: PolicySet) -> None:
        config = engine.model_config
        for bundle in policies.bundles:
            bundle.check_model(config.get_hidden_size(), config.get_total_num_hidden_layers())

    audit = build_audit(settings.audit, metrics)
    events: EventSink = audit or NoEvents()
    recent = RecentRequests(settings.recent_requests)
    sampled = build_sampled(settings.detection, metrics)
    observer = Observer(metrics, audit=audit, sampled=sampled, recent=recent)
    assert settings.policy_file is not None
    store = PolicyStore(
        settings.policy_file,
        policies,
        gateway,
        check,
        metrics,
        approve=approve,
        events=events,
        history_size=settings.policy_history,
    )
    await store.start()
    state = State()
    await init_app_state(engine, state, args, await engine.get_supported_tasks())
    if state.openai_serving_chat is None:
        raise StartupError("the model does not generate text; serve a chat model")
    limits = settings.limits
    media.start(model.takes)
    guard = MediaGuard(settings.media, model.takes, media)
    intake = ChatIntake(limits, guard, model.names, metrics, events)
    return Service(
        model=model,
        started_at=int(time.time()),
        vllm_version=vllm_version,
        health=Health(engine_failed=lambda: bool(engine.errored)),
        json_limits=JsonLimits(limits.json_values, limits.json_depth),
        prove=lambda: prove_answer(InternalChat(state.openai_serving_chat), store.current),
        policies=store,
        intake=intake,
        chat=ChatService(
            state.openai_serving_chat,
            metrics,
            limits.report_tokens,
            settings.passes,
            thinks=_may_think(args),
            observer=observer,
        ),
        moderation=ModerationService(
            intake, InternalChat(state.openai_serving_chat), metrics, settings.moderation
        ),
        observer=observer,
        exposition=lambda: prometheus_client.generate_latest(get_prometheus_registry()),
        keys=KeyStore(settings.keys_file, settings.key, OpsMetrics(model.names[0])),
        budgets=Budgets(),
        denials=Denials(metrics, events),
        recent=recent,
        events=events,
    )


def media_workers(settings: Settings, args: Namespace) -> WorkerPool:
    """What reads callers' media; none of it runs yet."""
    heard = bool((args.mm_processor_kwargs or {}).get("use_audio_in_video"))
    return WorkerPool(settings.media, keep_sound=heard)


def _may_think(args: Namespace) -> bool:
    """Whether the server is set up for a model that thinks before it answers."""
    defaults = args.default_chat_template_kwargs or {}
    thinking = defaults.get("enable_thinking") or defaults.get("thinking")
    parser = args.reasoning_parser or args.structured_outputs_config.reasoning_parser
    return bool(parser or thinking)


def _served_model(engine: Any, args: Namespace) -> ServedModel:
    config = engine.model_config
    takes: dict[str, int] = {}
    if config.supports_multimodal_inputs:
        from vllm.multimodal import MULTIMODAL_REGISTRY

        limits = MULTIMODAL_REGISTRY.get_processing_info(config).allowed_mm_limits
        takes = {name: count for name, count in limits.items() if count > 0}
    names = tuple(args.served_model_name or [args.model])
    return ServedModel(names, config.max_model_len, takes)
