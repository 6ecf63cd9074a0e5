"""Puts the service together around a running engine, a part at a time."""

from __future__ import annotations

import time
from argparse import Namespace
from dataclasses import dataclass
from functools import partial

import prometheus_client
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.v1.metrics.prometheus import get_prometheus_registry
from vllm.version import __version__ as vllm_version

from refusal_server.access.budget import Budgets
from refusal_server.access.cache_salts import CacheSalts
from refusal_server.access.denials import Denials
from refusal_server.access.key_store import KeyStore
from refusal_server.access.places import requests_in_progress
from refusal_server.access.wrong_keys import WrongKeys
from refusal_server.chat.grammar.queue import GrammarQueue
from refusal_server.chat.internal import InternalChat, prove_answer
from refusal_server.chat.moderation import ModerationService
from refusal_server.chat.request import ChatIntake
from refusal_server.chat.service import ChatService
from refusal_server.console.live import WANTED as SHOWN
from refusal_server.detection.build import build_sampled
from refusal_server.events import NoEvents
from refusal_server.http.health import Health
from refusal_server.http.json_body import JsonLimits
from refusal_server.http.service import ServedModel, Service
from refusal_server.media.guard import MediaGuard
from refusal_server.media.worker_pool import WorkerPool
from refusal_server.policy.agreement.holder import PolicyHolder
from refusal_server.policy.policy_set import PolicySet
from refusal_server.run.processes.commons import Commons
from refusal_server.run.processes.policies import policy_holder
from refusal_server.run.served_model import hears_videos, may_think, served_model, serving_chat
from refusal_server.settings import Settings
from refusal_server.telemetry.audit.build import build_audit
from refusal_server.telemetry.exposition import Exposition
from refusal_server.telemetry.history import MetricHistory
from refusal_server.telemetry.metrics import Metrics
from refusal_server.telemetry.observer import Observer
from refusal_server.telemetry.ops_metrics import OpsMetrics
from refusal_server.telemetry.recent import Recent, RecentDenials
from refusal_steering.vllm_plugin.gateway import SteeringGateway
from refusal_steering.vllm_plugin.protocols import EngineClient


async def assemble(
    engine: EngineClient,
    args: Namespace,
    settings: Settings,
    policies: PolicySet,
    media: WorkerPool,
    commons: Commons,
) -> Service:
    """Bring the policy into force on every rank, start ``media`` and build what the routes need.

    Raises a ``SteeringError`` when a rank does not follow or a canary does not pass.
    """
    gateway = SteeringGateway(engine)
    model = served_model(engine, args)
    telemetry = _telemetry(settings, model, commons)
    store = policy_holder(
        engine, gateway, settings, policies, commons.fellowship, telemetry.metrics, telemetry.events
    )
    await store.start()
    serving = await serving_chat(engine, args)
    internal = InternalChat(serving)
    media.start(model.takes)
    intake = _intake(settings, model, media, telemetry, commons.salts)
    roll, tally = commons.roll, commons.tally
    denials = Denials(telemetry.metrics, telemetry.events)
    exposition = Exposition(get_prometheus_registry)
    return Service(
        model=model,
        started_at=int(time.time()),
        vllm_version=vllm_version,
        health=Health(lambda: engine.errored, commons.others),
        json_limits=JsonLimits(settings.limits.json_values, settings.limits.json_depth),
        prove=partial(_prove, internal, store),
        policies=store,
        intake=intake,
        chat=_chat(engine, serving, args, settings, telemetry),
        moderation=ModerationService(intake, internal, telemetry.metrics, settings.moderation),
        observer=telemetry.observer,
        exposition=exposition,
        http=telemetry.metrics,
        keys=KeyStore(settings.keys_file, settings.key, OpsMetrics(model.names[0])),
        budgets=Budgets(commons.fleet),
        denials=denials,
        concurrency=requests_in_progress(commons.fleet),
        grammars=GrammarQueue(settings.limits, denials, tally),
        wrong_keys=WrongKeys(telemetry.metrics, telemetry.events, tally),
        history=MetricHistory(exposition.collect, SHOWN),
        recent=telemetry.recent,
        denied=telemetry.events,
        events=telemetry.events,
        roll=roll,
        operator=gateway.operator,
    )


def media_workers(settings: Settings, args: Namespace) -> WorkerPool:
    """What reads callers' media; none of it runs yet."""
    return WorkerPool(settings.media, keep_sound=hears_videos(args))


@dataclass(frozen=True, slots=True)
class _Telemetry:
    """Where everything else tells what happens."""

    metrics: Metrics
    events: RecentDenials
    recent: Recent
    observer: Observer


def _telemetry(settings: Settings, model: ServedModel, commons: Commons) -> _Telemetry:
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    metrics = Metrics(model.names[0])
    audit = build_audit(settings.audit, metrics, commons.audit_lock)
    sampled = build_sampled(settings.detection, metrics)
    observer = Observer(metrics, audit=audit, sampled=sampled, recent=commons.recent)
    events = RecentDenials(settings.recent_requests, audit or NoEvents())
    return _Telemetry(metrics, events, commons.recent, observer)


async def _prove(internal: InternalChat, store: PolicyHolder) -> None:
    with store.lease() as lease:
        await prove_answer(internal, lease.policies)


def _intake(
    settings: Settings,
    model: ServedModel,
    media: WorkerPool,
    telemetry: _Telemetry,
    salts: CacheSalts,
) -> ChatIntake:
    guard = MediaGuard(settings.media, model.takes, media)
    return ChatIntake(
        settings.limits, guard, model.names, telemetry.metrics, telemetry.events, salts
    )


def _chat(
    engine: EngineClient,
    serving: OpenAIServingChat,
    args: Namespace,
    settings: Settings,
    telemetry: _Telemetry,
) -> ChatService:
    return ChatService(
        serving,
        telemetry.metrics,
        settings.limits.report_tokens,
        settings.passes,
        thinks=may_think(args),
        observer=telemetry.observer,
        tokenizer=engine.get_tokenizer(),
    )
